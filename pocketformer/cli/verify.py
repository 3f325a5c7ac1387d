"""``pocketformer verify``: check a bundle's files and answers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pocketformer.cli.options import PATH, json_option, verbose_option
from pocketformer.runtime.errors import VerificationError


@click.command("verify")
@click.argument("bundle", type=PATH)
@json_option
@verbose_option
def command(bundle: Path, as_json: bool) -> int:
    """Check the hashes of BUNDLE and replay its golden samples on this machine."""
    from pocketformer.runtime.verify import verify

    outcome = verify(bundle)
    if as_json:
        checks = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in outcome.checks]
        click.echo(json.dumps({"ok": outcome.ok, "checks": checks}, ensure_ascii=False))
    else:
        for check in outcome.checks:
            click.echo(f"{'ok    ' if check.ok else 'FAILED'}  {check.name}: {check.detail}")
    return 0 if outcome.ok else VerificationError.exit_code
