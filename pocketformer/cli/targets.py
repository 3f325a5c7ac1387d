"""``pocketformer targets``: list, show and probe devices, and time the blocks of a model there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from pocketformer.cli.options import PATH, device_options, json_option, reached, verbose_option
from pocketformer.cli.output import write_file

if TYPE_CHECKING:
    from pocketformer.targets.profile import TargetProfile


@click.group("targets")
def command() -> None:
    """List, show and probe devices, and time a model's blocks on them."""


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
@click.option("--profile", type=PATH, help="Write it as a profile to this file, for --target.")
@device_options
@json_option
@verbose_option
def probe_command(address: Optional[str], profile: Optional[Path], as_json: bool, **values: Any) -> None:
    """What this machine has, its NVIDIA GPUs included, those alone (gpu), or what a device reached over SSH has."""
    given = reached(values)
    if profile is not None and (profile.exists() or profile.suffix not in (".yaml", ".yml")):
        why = "is there already" if profile.exists() else "does not end in .yaml"
        raise click.UsageError(f"{profile} {why}; choose another name for the profile.")
    if address == "gpu":
        from pocketformer.targets.nvml import probe_gpus

        gpus = probe_gpus()
        _print({"gpus": gpus}, as_json)
        if profile is not None:
            from pocketformer.targets.probed_profile import profile_of_gpu

            _write_profile(profile_of_gpu(gpus[0]), profile)
        return
    if address is None:
        if given:
            raise click.UsageError("these options need the address of a device, such as ssh://user@host.")
        from pocketformer.targets.machine import probe_machine

        facts = probe_machine()
        _print(facts, as_json)
        if profile is not None:
            from pocketformer.targets.probed_profile import profile_of

            _write_profile(profile_of(facts), profile)
        return
    from pocketformer.targets.remote import RemoteDevice
    from pocketformer.targets.ssh import SshOptions

    options = SshOptions(**{name: given.pop(name) for name in ("identity", "known_hosts") if name in given})
    device = RemoteDevice(address, options=options, on_event=_warn, **given)
    with device:
        facts = device.probe()
    _print(facts, as_json)
    if profile is not None:
        from pocketformer.targets.probed_profile import profile_of

        _write_profile(profile_of(facts, reach=address), profile)


def _write_profile(found: TargetProfile, path: Path) -> None:
    import yaml

    values = {name: value for name, value in found.to_dict().items() if value not in (None, [], ())}
    write_file(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    click.echo(f"Wrote {path}: complete it (power modes, precisions), then use --target {path}", err=True)


def _warn(event: Mapping[str, Any]) -> None:
    if event["event"] == "warning":
        click.echo(f"Warning: {event.get('message')}", err=True)


def _print(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values))
        return
    import yaml

    click.echo(yaml.safe_dump(values, sort_keys=False).rstrip())


@command.command("table")
@click.argument("model", type=PATH)
@click.option("--target", default="cpu", show_default=True, help="A device measured here: cpu.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: all cores available.")
@click.option("--again", is_flag=True, help="Measure anew, also where there is a table.")
@json_option
@verbose_option
def table_command(model: Path, target: str, threads: Optional[int], again: bool, as_json: bool) -> None:
    """What blocks of MODEL's architecture cost on TARGET.

    MODEL is a Hugging Face directory or a run. Milliseconds of attention by its heads and of a feed-forward network by
    its neurons, in every form that ships and at several shapes: measured once, in a minute or two, and kept for this
    processor, onnxruntime and number of threads. A report holds the table's predictions against what it measured.
    """
    from pocketformer.pipeline.latency import table_of_target

    tabled = table_of_target(
        model, target, threads=threads, again=again, say=lambda text: click.echo(text, err=True)
    )
    if as_json:
        from pocketformer.targets.latency_cache import table_to_dict

        click.echo(json.dumps({**table_to_dict(tabled.table), "path": str(tabled.path)}))
        return
    from pocketformer.cli.latency_table import print_table

    print_table(tabled)
