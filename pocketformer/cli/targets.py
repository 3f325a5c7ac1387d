"""``pocketformer targets``: list, show and probe devices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Optional

import click

from pocketformer.cli.options import device_options, json_option, reached, verbose_option


@click.group("targets")
def command() -> None:
    """List, show and probe devices."""


@command.command("list")
@json_option
@verbose_option
def list_command(as_json: bool) -> None:
    """Known devices, and which can be measured."""
    from pocketformer.targets.profile import list_targets
    from pocketformer.targets.support import NOT_YET, missing_for_gpu, support, what_is_missing

    profiles = sorted(list_targets(), key=lambda profile: support(profile) == NOT_YET)
    if as_json:
        facts = [
            {
                **profile.to_dict(),
                "support": support(profile),
                "missing": what_is_missing(profile) or "; ".join(missing_for_gpu(profile)) or None,
            }
            for profile in profiles
        ]
        click.echo(json.dumps(facts))
        return
    for profile in profiles:
        click.echo(f"{profile.name:<20} {support(profile):<18} {profile.description}")


@command.command("show")
@click.argument("target")
@json_option
@verbose_option
def show_command(target: str, as_json: bool) -> None:
    """The profile of TARGET, a name or a YAML file."""
    from pocketformer.targets.profile import find_target

    _print(find_target(target).to_dict(), as_json)


@command.command("probe")
@click.argument("address", required=False, metavar="[gpu|ssh://user@host[:port]]")
@device_options
@json_option
@verbose_option
def probe_command(address: Optional[str], as_json: bool, **values: Any) -> None:
    """What this machine has, its NVIDIA GPUs included, those alone (gpu), or what a device reached over SSH has."""
    given = reached(values)
    if address == "gpu":
        from pocketformer.targets.nvml import probe_gpus

        _print({"gpus": probe_gpus()}, as_json)
        return
    if address is None:
        if given:
            raise click.UsageError("these options need the address of a device, such as ssh://user@host.")
        from pocketformer.targets.machine import probe_machine

        _print(probe_machine(), as_json)
        return
    from pocketformer.targets.remote import RemoteDevice
    from pocketformer.targets.ssh import SshOptions

    options = SshOptions(**{name: given.pop(name) for name in ("identity", "known_hosts") if name in given})
    device = RemoteDevice(address, options=options, on_event=_warn, **given)
    with device:
        facts = device.probe()
    _print(facts, as_json)


def _warn(event: Mapping[str, Any]) -> None:
    if event["event"] == "warning":
        click.echo(f"Warning: {event.get('message')}", err=True)


def _print(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values))
        return
    import yaml

    click.echo(yaml.safe_dump(values, sort_keys=False).rstrip())
