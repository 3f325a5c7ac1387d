"""TensorRT engines that are built on a device: the host sends the graph, the agent builds, the engine comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketformer.runtime.fingerprint import Fingerprint, check_fingerprint
from pocketformer.runtime.tensorrt.config import EngineConfig, Precision
from pocketformer.runtime.tensorrt.library import LIBRARIES
from pocketformer.targets.agent.engine import ENGINE, GRAPH, SETTINGS, TIMINGS, Settings
from pocketformer.targets.remote import RemoteDevice


@dataclass(frozen=True, kw_only=True)
class Builder:
    """A TensorRT on a device: the module's name, its version, and what it builds for.

    ``compute_capabilities`` can be named; it is empty where the GPU at hand decides. ``gpu`` is the compute capability
    of that GPU, None without one (``no_gpu`` says why), ``driver`` the CUDA that its driver takes.
    """

    library: str
    version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    no_gpu: str | None
    driver: str | None


@dataclass(frozen=True, kw_only=True)
class BuiltThere:
    """An engine that came back: where it is, its fingerprint, and what ``runtime.tensorrt.build`` told of it."""

    engine: Path
    fingerprint: Fingerprint
    metrics: dict[str, float]
    notes: tuple[str, ...]


def find_builder(device: RemoteDevice, libraries: Sequence[str] = LIBRARIES) -> Builder:
    """The first of these libraries over there; ``DeviceError`` that says what to install when there is none."""
    facts = device.single("builder", *libraries)
    facts["compute_capabilities"] = tuple(facts["compute_capabilities"])
    return Builder(**facts)


def build_there(
    device: RemoteDevice,
    builder: Builder,
    graph: Path,
    folder: Path,
    config: EngineConfig,
    *,
    precision: Precision,
    name: str = "engine",
) -> BuiltThere:
    """Build the typed ONNX file ``graph`` on the device for its one compute capability, and bring the engine here.

    ``folder`` here gets the engine, its fingerprint and its layers; ``name`` is the folder over there, which keeps them
    too. The timing cache of ``config`` travels along and comes back fuller. Raises ``RejectedGraphError`` with every
    node that the parser over there rejects, ``DeviceError`` and ``VerificationError`` as ``RemoteDevice``; the latter
    too when the engine is not what was asked for.
    """
    (capability,) = config.compute_capabilities
    settings = Settings(
        library=builder.library,
        precision=precision,
        compute_capability=capability,
        batch=config.profile.batch,
        sequence=config.profile.sequence,
        sparse_weights=config.sparse_weights,
    )
    files: dict[str, Path | bytes] = {GRAPH: graph, SETTINGS: settings.to_json().encode("ascii")}
    cache = config.timing_cache
    if cache is not None and cache.is_file():
        files[TIMINGS] = cache
    device.send(files, name)
    told = device.single("build", f"{device.folder}/{name}")
    brought = [file for file in told["files"] if file != TIMINGS or cache is not None]
    device.fetch(brought, name, folder)
    if cache is not None and TIMINGS in brought:
        cache.parent.mkdir(parents=True, exist_ok=True)
        (folder / TIMINGS).replace(cache)
    fingerprint = check_fingerprint(
        folder / ENGINE,
        library=builder.library,
        library_version=builder.version,
        compute_capability=capability,
        graph=graph,
        profile=config.profile.to_dict(),
        precision=precision,
    )
    metrics: dict[str, Any] = told["metrics"]
    return BuiltThere(
        engine=folder / ENGINE, fingerprint=fingerprint, metrics=metrics, notes=tuple(told["notes"])
    )
