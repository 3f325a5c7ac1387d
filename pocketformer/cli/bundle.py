"""``pocketformer bundle``: pack what an app embeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, data_options, data_section, run_options


@click.command("bundle")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option("--name", help="Default: the model directory's name.")
@run_options
def command(model: Path, name: Optional[str], output: Path, force: bool, as_json: bool, **values: Any) -> int:
    """Pack MODEL (a run with an exported or quantized graph) into a self-testing directory."""
    from pocketformer.cli.running import run_and_render, step_recipe

    data = data_section(values)
    step: Any = {"bundle": {"name": name}} if name else "bundle"
    return run_and_render(step_recipe(model, [step], values, data), output, force=force, as_json=as_json)
