"""What a report tells of a GPU, line by line, for all renderings."""

from __future__ import annotations

from pocketformer.report import wording
from pocketformer.report.content import Fact
from pocketformer.report.measured import Device, GpuInfo, GpuWatch, Spread

_NOT_TOLD = "not told"


def gpu_facts(device: Device) -> list[Fact]:
    """What ran where, the GPU's own time, clocks, power and heat; empty for what is no GPU."""
    gpu = device.gpu
    if gpu is None:
        return []
    facts = [
        Fact("Providers asked for", ", ".join(gpu.providers)),
        Fact("What really ran", ran_where(gpu)),
        Fact("Fallback operators", _fallback(device)),
        Fact("CUDA graphs", "replayed for fixed shapes" if gpu.cuda_graph else "no"),
    ]
    for workload in wording.workload_order(set(gpu.device_latency_ms)):
        label = f"By the GPU's own events, {wording.workload_label(workload)}, p50 / p90 / p99"
        facts.append(Fact(label, wording.percentiles(gpu.device_latency_ms[workload])))
    if gpu.watch is not None:
        facts += _watched(gpu, gpu.watch)
    versions = {name: device.versions.get(name) for name in ("NVIDIA driver", "CUDA of the driver")}
    return facts + [Fact(name, version) for name, version in versions.items() if version]


def ran_where(gpu: GpuInfo) -> str:
    """``61 nodes on CUDAExecutionProvider, 2 on CPUExecutionProvider``, and the copies between them."""
    parts = [f"{count:,} on {name}" for name, count in gpu.nodes.items()]
    if not parts:
        return wording.NOT_MEASURED
    copies = f"; {wording.counted(gpu.copies, 'copy', 'copies')} between them" if gpu.copies else ""
    return f"nodes: {', '.join(parts)}{copies}"


def _fallback(device: Device) -> str:
    found = device.fallback_operators
    if found is None:
        return wording.NOT_MEASURED
    return ", ".join(f"{name} {count}" for name, count in found.items()) or "none"


def _watched(gpu: GpuInfo, watch: GpuWatch) -> list[Fact]:
    highest = f", highest {gpu.sm_mhz_max:,.0f} MHz" if gpu.sm_mhz_max else ""
    limit = f", held to {gpu.power_limit_mw / 1000:.0f} W" if gpu.power_limit_mw else ""
    return [
        Fact("Clock while timed", _spread(watch.sm_mhz, "MHz") + highest),
        Fact("Power while timed", _spread(watch.power_mw, "W", 1e-3) + limit),
        Fact("Temperature while timed", _spread(watch.temperature_c, "°C")),
        Fact("Memory in use on the GPU", _spread(watch.memory_used_mb, "MB")),
        Fact("Throttled", _throttling(watch)),
    ]


def _spread(value: Spread | None, unit: str, scale: float = 1.0) -> str:
    if value is None:
        return _NOT_TOLD
    low, mean, high = (f"{scale * number:,.0f}" for number in (value.min, value.mean, value.max))
    return f"{mean} {unit} ({low} to {high})"


def _throttling(watch: GpuWatch) -> str:
    if watch.throttling is None:
        return _NOT_TOLD
    shares = watch.reasons or {}
    return ", ".join(f"{name} in {wording.percent(shares.get(name))}" for name in watch.throttling) or "no"
