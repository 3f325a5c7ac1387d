"""Engines that are built on a device over SSH: typed graph and shapes from here, TensorRT and the GPU from there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pocketformer.pipeline.context import Made, RunContext
from pocketformer.pipeline.engine_stages import Prepared, TensorrtConfig, engine_made, prepare_engine
from pocketformer.pipeline.fleet import FleetDevice, connection_to, name_of
from pocketformer.runtime.errors import DeviceError
from pocketformer.runtime.tensorrt.parser import RejectedGraphError

if TYPE_CHECKING:
    from pocketformer.targets.remote import RemoteDevice
    from pocketformer.targets.remote_build import Builder, BuiltThere


@dataclass(frozen=True, kw_only=True)
class EngineThere:
    """An engine that a device built: what was sent, what built it, what came back, and the result of the stage."""

    prepared: Prepared
    builder: Builder
    built: BuiltThere
    made: Made


def build_at(config: TensorrtConfig, device: FleetDevice, context: RunContext, folder: Path) -> Made:
    """The stage of ``TensorrtConfig.device``: connect, build there, leave nothing there."""
    from pocketformer.pipeline.devices import Hearing

    hearing = Hearing(name_of(device), context.listener.note)
    with connection_to(device, hearing.on_event) as connected:
        made = build_on(connected, config, context, folder).made
    return replace(made, notes=(*made.notes, *hearing.warnings))


def build_on(device: RemoteDevice, config: TensorrtConfig, context: RunContext, folder: Path) -> EngineThere:
    """Build the engine of the fp32 graph on a connected device and bring it into ``folder``.

    ``DeviceError`` when the device has no TensorRT that will do, or another GPU than it is said to have;
    ``ExportError`` with every node that its parser rejects and what to change.
    """
    from pocketformer.export.tensorrt.compatibility import explain, refuse
    from pocketformer.targets.remote_build import build_there, find_builder

    builder = find_builder(device, _libraries(config.library))
    capability = _capability(builder, config.compute_capabilities, str(device.address))
    prepared = prepare_engine(replace(config, compute_capabilities=(capability,)), context, folder)
    parser = f"{builder.library} {builder.version} on {device.address}"
    refuse(prepared.graph, explain(prepared.graph), parser)
    settings = replace(prepared.settings, timing_cache=_timing_cache(builder, device.address.host))
    try:
        built = build_there(device, builder, prepared.graph, folder, settings, precision=config.precision)
    except RejectedGraphError as error:
        refuse(prepared.graph, explain(prepared.graph, error.complaints), parser)
        raise
    notes = [f"built on {device.address} by {builder.library} {builder.version}", *built.notes]
    return EngineThere(
        prepared=prepared,
        builder=builder,
        built=built,
        made=engine_made(config, prepared, built.metrics, notes),
    )


def _libraries(wanted: str | None) -> tuple[str, ...]:
    """The modules that will do, the preferred one first: where TensorRT is asked for, TensorRT-RTX stands in."""
    from pocketformer.runtime.tensorrt.library import LIBRARIES

    return ("tensorrt_rtx",) if wanted == "tensorrt_rtx" else LIBRARIES


def _capability(builder: Builder, wanted: tuple[str, ...], address: str) -> str:
    """The compute capability to build for: the one that is named, which has to be that of the GPU where it decides."""
    named = wanted[0] if wanted else None
    if named is None and builder.gpu is None:
        raise DeviceError(
            f"which GPU {address} has is not said, and it shows none: {builder.no_gpu}",
            hint="Name its compute capability: in the profile, or with --compute-capability.",
        )
    decided = builder.gpu if not builder.compute_capabilities else None
    if named is not None and decided is not None and named != decided:
        raise DeviceError(
            f"the GPU of {address} has compute capability {decided}, and {named} is asked for",
            hint="Check the address, or name another profile.",
        )
    return str(named or builder.gpu)


def _timing_cache(builder: Builder, host: str) -> Path | None:
    """Where the timings of a device are kept on this machine; they hold for that GPU and version alone."""
    from pocketformer.pipeline.demo import cache_directory

    if builder.compute_capabilities:
        return None  # it builds ahead of time and times nothing
    place = re.sub(r"[^A-Za-z0-9.-]", "_", host.lower())
    return cache_directory() / f"{builder.library}-{builder.version}-{place}.timings"
