"""``pocketformer targets``: list, show and probe devices."""

from __future__ import annotations

import json
from typing import Any

import click

from pocketformer.cli.options import json_option, verbose_option


@click.group("targets")
def command() -> None:
    """List, show and probe devices."""


@command.command("list")
@json_option
@verbose_option
def list_command(as_json: bool) -> None:
    """Known devices, and which can be measured."""
    from pocketformer.targets.profile import list_targets
    from pocketformer.targets.support import NOT_YET, support, what_is_missing

    profiles = sorted(list_targets(), key=lambda profile: support(profile) == NOT_YET)
    if as_json:
        facts = [
            {**profile.to_dict(), "support": support(profile), "missing": what_is_missing(profile)}
            for profile in profiles
        ]
        click.echo(json.dumps(facts))
        return
    for profile in profiles:
        click.echo(f"{profile.name:<20} {support(profile):<15} {profile.description}")


@command.command("show")
@click.argument("target")
@json_option
@verbose_option
def show_command(target: str, as_json: bool) -> None:
    """The profile of TARGET, a name or a YAML file."""
    from pocketformer.targets.profile import find_target

    _print(find_target(target).to_dict(), as_json)


@command.command("probe")
@json_option
@verbose_option
def probe_command(as_json: bool) -> None:
    """What this machine has."""
    from pocketformer.targets.probe import probe_cpu

    _print(probe_cpu(), as_json)


def _print(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values))
        return
    import yaml

    click.echo(yaml.safe_dump(values, sort_keys=False).rstrip())
