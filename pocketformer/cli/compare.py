"""``pocketformer compare``: set two reports side by side."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pocketformer.cli.options import PATH, json_option, verbose_option
from pocketformer.cli.output import stdout_console


@click.command("compare")
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@json_option
@verbose_option
def command(first: Path, second: Path, as_json: bool) -> None:
    """Compare the reports of FIRST and SECOND (run directories or report.json files)."""
    from pocketformer.report.compare import compare_reports, print_comparison
    from pocketformer.report.storage import load_report

    comparison = compare_reports(load_report(first), load_report(second))
    if as_json:
        click.echo(json.dumps(comparison.to_dict(), ensure_ascii=False))
        return
    print_comparison(comparison, stdout_console())
