"""``pocketformer verify``: check a bundle's files and answers, or whether a TensorRT engine fits what is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import click

from pocketformer.cli.options import PATH, json_option, key_option, verbose_option
from pocketformer.runtime.errors import VerificationError


@click.command("verify")
@click.argument("bundle", type=PATH)
@key_option
@json_option
@verbose_option
def command(bundle: Path, key: Optional[Path], as_json: bool) -> int:
    """Check the hashes of BUNDLE and replay its golden samples on this machine.

    BUNDLE is a directory or an archive (.pfz) of one. It may also be a TensorRT engine, its directory or the run that
    built it: that is held to its graph and to the TensorRT, GPU and driver of this machine, and not run.
    """
    engine = _engine_of(bundle)
    if engine is not None:
        if key is not None:
            raise click.UsageError("an engine alone is not signed; --key is for bundles.")
        return _verify_engine(engine, as_json=as_json)
    from pocketformer.runtime.verify import verify

    outcome = verify(bundle, key=key)
    if as_json:
        click.echo(json.dumps(outcome.to_dict(), ensure_ascii=False))
    else:
        for check in outcome.checks:
            click.echo(f"{'ok' if check.ok else 'FAIL':<6}{check.name:<12}{_one_line(check.detail)}")
    return 0 if outcome.ok else VerificationError.exit_code


def _one_line(detail: str) -> str:
    """What a bundle of a stranger says of itself must not pass for a line of ours, nor steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in detail)


def _engine_of(path: Path) -> Optional[Path]:
    """The engine that is meant; None for a bundle."""
    from pocketformer.pipeline.rundir import read_run
    from pocketformer.runtime.contents import is_archive
    from pocketformer.runtime.manifest import MANIFEST_FILE
    from pocketformer.runtime.verify_engine import find_engine

    if is_archive(path) or (path / MANIFEST_FILE).is_file():
        return None
    run = read_run(path) if path.is_dir() else None
    made = run["artefacts"].get("engine") if run is not None else None
    return path / made if made else find_engine(path)


def _verify_engine(engine: Path, *, as_json: bool) -> int:
    from pocketformer.runtime.verify_engine import verify_engine

    found = verify_engine(engine)
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
        return 0 if found.ok else VerificationError.exit_code
    for check in found.checks:
        click.echo(f"{'ok      ' if check.ok else 'FAILED  '}  {check.name}: {check.detail}")
    for item in found.unchecked:
        click.echo(f"not seen  {item.name}: {item.reason}")
    if found.ok:
        return 0
    raise VerificationError(f"{engine} does not fit what is here", hint=found.hint)
