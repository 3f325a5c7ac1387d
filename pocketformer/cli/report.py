"""``pocketformer report``: show or render the report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from pocketformer.cli.options import PATH, json_option, verbose_option
from pocketformer.cli.output import stdout_console, write_file


@click.command("report")
@click.argument("run_directory", metavar="RUN", type=PATH)
@click.option("--format", "form", type=click.Choice(["terminal", "html", "md", "card"]), default="terminal")
@click.option("-o", "--output", type=PATH, help="File to write; default: standard output.")
@json_option
@verbose_option
def command(run_directory: Path, form: str, output: Optional[Path], as_json: bool) -> None:
    """Show the report of RUN (a run directory or a report.json), or render it anew."""
    from pocketformer.report.storage import load_report

    report = load_report(run_directory)
    if as_json:
        text = report.model_dump_json(indent=2)
    elif form == "terminal":
        from pocketformer.report.terminal import print_report

        print_report(report, stdout_console())
        return
    else:
        text = _render(form, report)
    if output is None:
        click.echo(text)
    else:
        write_file(output, text)
        click.echo(f"Wrote {output}", err=True)


def _render(form: str, report: object) -> str:
    from pocketformer.report.html import render_html
    from pocketformer.report.markdown import render_markdown
    from pocketformer.report.model_card import render_model_card

    renderers = {"html": render_html, "md": render_markdown, "card": render_model_card}
    return renderers[form](report)  # type: ignore[arg-type]
