"""``pocketformer doctor``: what is installed, what is missing, and for which verb."""

from __future__ import annotations

import json

import click

from pocketformer.cli.options import json_option, verbose_option


@click.command("doctor")
@json_option
@verbose_option
def command(as_json: bool) -> None:
    """What is installed, what is missing, and which verbs need it."""
    from pocketformer.pipeline.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in findings]))
        return
    for finding in findings:
        state = finding.version or "missing"
        click.echo(f"{finding.package:<25} {state:<12} {finding.purpose}")
        if finding.reason:
            click.echo(f"{'':<25} {finding.reason}")
    missing = [finding for finding in findings if finding.version is None]
    # What no extra brings (the base install, NVIDIA's own index) is shown above and needs no command here.
    extras = sorted({finding.extra for finding in missing if finding.extra})
    if extras:
        click.echo(
            f"\nTo add what is missing: pip install {' '.join(repr(f'pocketformer[{e}]') for e in extras)}"
        )
