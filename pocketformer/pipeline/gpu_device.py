"""This machine's GPU as a device of a bench: its row is measured there, or says what is missing.

Experimental: it has never run on a GPU (docs/gpu.md). What decides is tested with the CPU's provider and stand-ins.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pocketformer.pipeline import bench
from pocketformer.pipeline.devices import Answered, Hearing, Row, Subject
from pocketformer.runtime.errors import DeviceError, VerificationError
from pocketformer.runtime.manifest import read_manifest
from pocketformer.targets.workloads import REAL_INPUTS

if TYPE_CHECKING:
    from pocketformer.pipeline.fleet import Place
    from pocketformer.targets.gpu import GpuMeasurement

# What decides about speed on a GPU besides onnxruntime, where it came as a wheel.
_PACKAGES = (
    "nvidia-cublas",
    "nvidia-cublas-cu12",
    "nvidia-cuda-runtime",
    "nvidia-cuda-runtime-cu12",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "tensorrt",
)


def measure_on_gpu(place: Place, subject: Subject, hearing: Hearing, stopped: Callable[[], bool]) -> Answered:
    """Verify the bundle, let the GPU answer the held-out rows, time it there.

    ``DeviceError`` names what is missing, and is raised when ``stopped`` says so; ``VerificationError`` for a damaged
    bundle. Nothing falls back to the CPU but the operators that the profile allows to, and these are counted.
    """
    from pocketformer.runtime.verify import verify
    from pocketformer.targets.gpu import measure_gpu
    from pocketformer.targets.support import require_gpu

    profile = place.profile
    if profile is None:
        raise DeviceError(f"{place.name!r} names no profile of a GPU", hint="Give a target, such as gpu.")
    require_gpu(profile)
    failed = [check for check in verify(subject.bundle).checks if not check.ok]
    if failed:
        raise VerificationError(
            f"the bundle is damaged: {'; '.join(f'{check.name}: {check.detail}' for check in failed)}",
            hint="Make it again.",
        )

    def heard(message: str) -> None:
        if stopped():
            raise DeviceError(f"{place.name} was told to stop", hint="Run again.")
        hearing.on_event({"event": "progress", "message": message})

    texts = subject.evaluation.texts
    measured = measure_gpu(
        subject.bundle,
        texts[:REAL_INPUTS],
        providers=profile.providers,
        index=place.device.gpu,
        compute_capability=profile.compute_capability,
        cuda_graph=place.device.cuda_graph,
        rounds=subject.rounds,
        answer=texts,
        on_progress=heard,
    )
    for warning in warnings_of(measured):
        hearing.on_event({"event": "warning", "message": warning})
    return Answered(row=gpu_row(place, subject, measured), logits=measured.logits)


def gpu_row(place: Place, subject: Subject, measured: GpuMeasurement) -> Row:
    """What was measured, in the words of report.json."""
    result = subject.scored(measured.logits, measured.host)
    facts = measured.gpu or {}
    own = read_manifest(subject.bundle).session.providers
    notes = list(measured.notes)
    notes += [f"golden samples by the providers measured: {c.detail}" for c in measured.golden if c.ok]
    if own != measured.providers:
        options = " ".join(f"--provider {_short(name)}" for name in measured.providers)
        notes.append(f"left to itself the bundle runs on {', '.join(own)}; as measured: predict {options}")
    return {
        "name": place.name,
        "status": "measured",
        "hardware": _hardware(facts),
        "result": result,
        "versions": _versions(facts),
        "fallback_operators": dict(measured.fallback_operators),
        "energy": measured.energy,
        "gpu": {
            "name": facts.get("name"),
            "compute_capability": facts.get("compute_capability"),
            "memory_mb": _in_mb(facts.get("memory_bytes")),
            "power_limit_mw": facts.get("power_limit_mw"),
            "sm_mhz_max": facts.get("sm_mhz_max"),
            "providers": list(measured.providers),
            "nodes": measured.placement.nodes,
            "copies": measured.placement.copies,
            "cuda_graph": measured.cuda_graph,
            "device_latency_ms": {name: asdict(timing.latency) for name, timing in measured.device.items()},
            "device_latency_samples_ms": {
                name: bench.in_ms(timing.seconds) for name, timing in measured.device.items()
            },
            "watch": None if measured.watch is None else _watch(measured.watch),
        },
        "notes": notes,
    }


def warnings_of(measured: GpuMeasurement) -> list[str]:
    """What a reader must know before believing the row: throttling, work of the CPU, other answers."""
    told = [f"golden samples by the GPU: {c.name}: {c.detail}" for c in measured.golden if not c.ok]
    nodes = measured.placement.nodes
    elsewhere = sum(measured.fallback_operators.values())
    if 2 * elsewhere >= sum(nodes.values()) > 0:
        told.append(
            f"{elsewhere} of {sum(nodes.values())} nodes did not run on the GPU: these figures are mostly the "
            "processor's"
        )
    watch = measured.watch or {}
    for name in watch.get("throttling") or ():
        told.append(f"the GPU was throttled: {name} in {watch['reasons'][name]:.0%} of samples")
    return told


def _watch(told: Mapping[str, Any]) -> dict[str, Any]:
    """``nvml.summarize`` in the units of a report; the energy of a watch is no inference's."""
    memory = told["memory_used_bytes"]
    return {
        "samples": told["samples"],
        "seconds": told["seconds"],
        **{name: told[name] for name in ("power_mw", "sm_mhz", "temperature_c", "reasons", "throttling")},
        "memory_used_mb": memory and {name: _in_mb(value) for name, value in memory.items()},
    }


def _hardware(facts: Mapping[str, Any]) -> str:
    memory = facts.get("memory_bytes")
    parts = [str(facts.get("name") or "a GPU without a name")]
    parts += [f"compute capability {facts['compute_capability']}"] if facts.get("compute_capability") else []
    return ", ".join([*parts, *([f"{memory / 1e9:.0f} GB"] if memory else [])])


def _versions(facts: Mapping[str, Any]) -> dict[str, str]:
    import numpy
    import onnxruntime
    import tokenizers

    versions = {
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "tokenizers": tokenizers.__version__,
    }
    for key, name in (("driver", "NVIDIA driver"), ("cuda", "CUDA of the driver")):
        if facts.get(key):
            versions[name] = str(facts[key])
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _short(provider: str) -> str:
    from pocketformer.runtime.providers import SHORT_NAMES

    return next((short for short, name in SHORT_NAMES.items() if name == provider), provider)


def _in_mb(value: float | None) -> float | None:
    return None if value is None else value / 1e6
