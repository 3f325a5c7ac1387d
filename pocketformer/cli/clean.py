"""``pocketformer clean``: delete what a run made."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pocketformer.cli.options import PATH, verbose_option


@click.command("clean")
@click.argument("directory", type=PATH)
@click.option("--yes", is_flag=True, help="Do not ask.")
@verbose_option
def command(directory: Path, yes: bool) -> None:
    """Delete what a run made in DIRECTORY; other files stay."""
    from pocketformer.pipeline.rundir import clean, owned_entries, require_run

    require_run(directory)
    entries = owned_entries(directory)
    question = f"Delete {', '.join(entry.name for entry in entries)} in {directory}?"
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask; say --yes.")
    if not yes and not click.confirm(question, err=True):
        click.echo("Nothing was deleted.", err=True)
        return
    clean(directory)
    click.echo(f"{directory} is clean")
