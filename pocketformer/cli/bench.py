"""``pocketformer bench``: measure a bundle against its teacher, here and on other devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, data_options, data_section, device_options, reached, work_options

# Beside those by which they are reached.
_OF_DEVICES = ("emulated", "power_mode", "jetson_clocks")


@click.command("bench")
@click.argument("model", type=PATH)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="TARGET",
    help="A name of `targets list`, a profile's file, or ssh://user@host[:port]; may be repeated.  [default: cpu]",
)
@click.option("--fleet", type=PATH, help="YAML file of devices; docs/targets.md describes it.")
@device_options
@click.option("--emulated", is_flag=True, help="They are emulators: no time is taken for a device's speed.")
@click.option(
    "--power-mode",
    multiple=True,
    metavar="MODE",
    help="Power mode of Jetsons to measure in, by name or number, put back afterwards; several: each in turn.",
)
@click.option("--jetson-clocks", is_flag=True, help="Lock their clocks meanwhile.")
@data_options(required=False)
@click.option("--rounds", type=click.IntRange(min=5), help="Timed rounds per workload. Default: 40.")
@click.option("-o", "--output", type=PATH, help="Run directory to write. Default: MODEL-bench, beside MODEL.")
@work_options
def command(
    model: Path,
    targets: tuple[str, ...],
    fleet: Optional[Path],
    rounds: Optional[int],
    output: Optional[Path],
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Measure MODEL (a run with a bundle) where it shall run, and report, one row a device.

    On this machine teacher and result are timed interleaved. Its GPU (--target gpu) and devices over SSH verify the
    bundle, answer the test inputs, which are scored here, and are timed; different machines at the same time. A
    TensorRT engine is built on its device; without an address, for a GPU of TensorRT-RTX, one is built here and not
    run. A device that fails stops no other: its row says why, and the exit code is 4.
    """
    from pocketformer.cli.running import run_and_render, step_recipe

    data = data_section(values)
    given = reached(values) | {name: value for name in _OF_DEVICES if (value := values.pop(name))}
    names, devices = _devices(targets, fleet, given)
    settings: dict[str, Any] = {"rounds": rounds} if rounds else {}
    if devices:
        settings["devices"] = devices
    recipe = step_recipe(model, [{"bench": settings}, "report"], {**values, "targets": names}, data)
    absolute = model.absolute()
    place = output or absolute.with_name(f"{absolute.name}-bench")
    return run_and_render(recipe, place, force=force, as_json=as_json)


def _devices(
    targets: tuple[str, ...], fleet: Optional[Path], given: dict[str, Any]
) -> tuple[tuple[str, ...], list[Any]]:
    """Names of all targets, and how those over SSH are reached."""
    from pocketformer.pipeline.fleet import FleetDevice, load_fleet, name_of

    # Only the options make it matter where a profile says that its device is.
    over_ssh = {text: _reached(text) for text in targets if text.startswith("ssh://") or given}
    devices = {text: FleetDevice(**keys, **given) for text, keys in over_ssh.items() if keys}
    if given and not devices:
        raise click.UsageError(
            "these options need a --target with an address, such as ssh://user@host; devices of a --fleet file have "
            "their own."
        )
    called = {text: name_of(device) for text, device in devices.items()}
    listed = load_fleet(fleet) if fleet is not None else ()
    names = [called.get(text, text) for text in targets] + [name_of(device) for device in listed]
    return tuple(names) or ("cpu",), [*devices.values(), *listed]


def _reached(target: str) -> dict[str, Any]:
    """The keys of ``FleetDevice`` for a target with an address; empty for one without."""
    from pocketformer.targets.profile import find_target

    if target.startswith("ssh://"):
        return {"address": target}
    if not find_target(target).reach.startswith("ssh://"):
        return {}
    # A profile of the user's own; a recipe that keeps it is run from anywhere.
    return {"target": str(Path(target).absolute())}
