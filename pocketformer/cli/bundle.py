"""``pocketformer bundle``: pack what an app embeds, and hand it over."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, data_options, data_section, run_options


@click.command("bundle")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option("--name", help="Default: the model directory's name.")
@click.option(
    "--for",
    "host",
    metavar="HOST",
    help="Write an app's sources with the bundle inside: web, node, c, android or ios.",
)
@click.option("--sign", "key", type=PATH, help="Sign it with this Ed25519 private key (PEM).")
@click.option("--archive", is_flag=True, help="Write one file (.pfz) instead of a directory.")
@run_options
def command(
    model: Path,
    name: Optional[str],
    host: Optional[str],
    key: Optional[Path],
    archive: bool,
    output: Path,
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Pack MODEL (a run with an exported or quantized graph) into a self-testing directory.

    With --for, --sign or --archive MODEL is a finished bundle, or a run that has one: OUTPUT is a signed copy, an
    archive, or a folder to begin an app from.
    """
    if host is None and key is None and not archive:
        from pocketformer.cli.running import run_and_render, step_recipe

        data = data_section(values)
        step: Any = {"bundle": {"name": name}} if name else "bundle"
        return run_and_render(step_recipe(model, [step], values, data), output, force=force, as_json=as_json)
    return _hand_over(model, output, host=host, key=key, archive=archive, force=force, as_json=as_json)


def _hand_over(
    model: Path,
    output: Path,
    *,
    host: Optional[str],
    key: Optional[Path],
    archive: bool,
    force: bool,
    as_json: bool,
) -> int:
    import json

    from pocketformer.export.hosts import host_by_name
    from pocketformer.pipeline.packing import pack

    written = pack(model, output, host=host, private_key=key, archive=archive, force=force)
    then = host_by_name(host).then if host is not None else ""
    if as_json:
        click.echo(json.dumps({"output": str(written), "host": host, "signed": key is not None}))
        return 0
    click.echo(str(written))
    if then:
        click.echo(f"Next: {then}", err=True)
    return 0
