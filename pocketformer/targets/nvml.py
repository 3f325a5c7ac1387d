"""NVIDIA's Management Library (NVML): which GPUs are here, and power, clocks, heat and throttling while one works.

Through NVIDIA's own bindings, nvidia-ml-py (module ``pynvml``, extra ``gpu``). Functions, units and bits are those of
docs.nvidia.com/deploy/nvml-api. Experimental: no GPU was at hand. What ran is the refusal without a driver; the rest
is tested with a stand-in for the bindings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from pocketformer.runtime.errors import DeviceError, MissingDependencyError, UnavailableError
from pocketformer.targets.tegrastats import integrate_power_j

# nvmlClocksEventReason* of nvml.h, group "NvmlClocksEventReasons": why clocks are not higher.
REASONS: Mapping[str, int] = {
    "idle": 0x1,
    "application-clocks": 0x2,
    "software-power-cap": 0x4,
    "hardware-slowdown": 0x8,
    "sync-boost": 0x10,
    "software-thermal-slowdown": 0x20,
    "hardware-thermal-slowdown": 0x40,
    "power-brake": 0x80,
    "display-clocks": 0x100,
}
# Those by which a measurement is slower than the GPU could be; the others are rest or what the user set.
THROTTLING = (
    "software-power-cap",
    "hardware-slowdown",
    "software-thermal-slowdown",
    "hardware-thermal-slowdown",
    "power-brake",
)


@dataclass(frozen=True)
class GpuSample:
    """One reading. Power in mW, clocks in MHz, temperature in degrees C, energy in mJ since the driver was loaded.

    Memory in use is the whole GPU's, other programs included. None where this GPU does not tell. ``seconds`` are
    monotonic; ``reasons`` are bits, see ``REASONS``. NVIDIA states that from Ampere on, GA100 excepted, the power is an
    average over the last second, and before that of the moment.
    """

    seconds: float
    power_mw: int | None = None
    sm_mhz: int | None = None
    memory_mhz: int | None = None
    temperature_c: int | None = None
    memory_used_bytes: int | None = None
    energy_mj: int | None = None
    reasons: int | None = None


@contextmanager
def open_nvml(bindings: Any = None) -> Iterator[Any]:
    """NVML, initialized; ``bindings`` take the place of ``pynvml`` in tests.

    Raises ``MissingDependencyError`` without nvidia-ml-py, ``DeviceError`` without NVIDIA's driver and whenever NVML
    reports an error inside the block.
    """
    nvml = _import_bindings() if bindings is None else bindings
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise DeviceError(
            f"there is no NVIDIA GPU that can be used: {error}",
            hint="NVML (libnvidia-ml) comes with NVIDIA's driver; nvidia-smi needs it as well.",
        ) from error
    try:
        yield nvml
    except nvml.NVMLError as error:
        raise DeviceError(
            f"NVML failed: {error}", hint="Look at nvidia-smi; a GPU that fell off the bus needs a reboot."
        ) from error
    finally:
        nvml.nvmlShutdown()


def bindings_missing() -> tuple[str, ...]:
    """That nvidia-ml-py is not installed, as the end of a sentence; empty where it is."""
    try:
        _import_bindings()
    except MissingDependencyError as error:
        return (error.message,)
    return ()


def find_gpus(bindings: Any = None) -> tuple[list[dict[str, Any]], str | None]:
    """Every GPU as ``probe_gpu``, and why there is none, None where there is one. Raises nothing."""
    try:
        gpus = probe_gpus(bindings)
    except UnavailableError as error:
        return [], error.message
    return gpus, None if gpus else "NVML shows no GPU"


def probe_gpus(bindings: Any = None) -> list[dict[str, Any]]:
    """Every GPU as ``probe_gpu``, in the order of NVML; errors as ``open_nvml``."""
    with open_nvml(bindings) as nvml:
        count = nvml.nvmlDeviceGetCount()
        return [_describe(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]


def probe_gpu(gpu: int | str, bindings: Any = None) -> dict[str, Any]:
    """One GPU, by its number or its place on the bus, in values that JSON can hold; errors as ``open_nvml``.

    ``name``, ``uuid``, ``pci_bus_id``, ``compute_capability`` ("8.9"), ``memory_bytes``, ``driver``, ``cuda`` (the
    newest that the driver runs), ``power_limit_mw``, ``sm_mhz`` and ``memory_mhz``, each also with ``_max``. None for
    what a GPU does not tell.
    """
    with open_nvml(bindings) as nvml:
        return _describe(nvml, _handle(nvml, gpu))


class GpuSampler:
    """Samples one GPU in a thread while the ``with`` block runs, every ``interval_s`` seconds, and at both its ends.

    ``samples`` grow while it runs; ``failure`` says why sampling ended early, None when it did not: what is measured
    meanwhile goes on. ``gpu`` is its number as NVML counts, which heeds no CUDA_VISIBLE_DEVICES, or its PCI bus id.
    Errors on entry as ``open_nvml``, and ``DeviceError`` when there is no such GPU.
    """

    def __init__(self, gpu: int | str = 0, *, interval_s: float = 0.1, bindings: Any = None) -> None:
        self.samples: list[GpuSample] = []
        self.failure: str | None = None
        self._gpu, self._interval_s, self._bindings = gpu, interval_s, bindings
        self._stop = threading.Event()

    def __enter__(self) -> GpuSampler:
        with ExitStack() as stack:
            nvml = stack.enter_context(open_nvml(self._bindings))
            try:
                gpu = _handle(nvml, self._gpu)
                self.samples.append(take_sample(nvml, gpu))
            except nvml.NVMLError as error:
                raise DeviceError(
                    f"GPU {self._gpu} cannot be sampled: {error}",
                    hint="`pocketformer targets probe gpu` lists them.",
                ) from error
            self._open = stack.pop_all()
        self._thread = threading.Thread(target=self._sample, args=(nvml, gpu), name="nvml", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._open.close()

    def _sample(self, nvml: Any, gpu: Any) -> None:
        try:
            while not self._stop.wait(self._interval_s):
                self.samples.append(take_sample(nvml, gpu))
            self.samples.append(take_sample(nvml, gpu))
        except nvml.NVMLError as error:
            self.failure = f"sampling the GPU ended early: {error}"


def take_sample(nvml: Any, gpu: Any) -> GpuSample:
    """What the GPU is doing now."""
    # The name before and after release 535 of the driver.
    reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, gpu)
    return GpuSample(
        seconds=time.monotonic(),
        power_mw=_told(nvml, nvml.nvmlDeviceGetPowerUsage, gpu),
        sm_mhz=_told(nvml, nvml.nvmlDeviceGetClockInfo, gpu, nvml.NVML_CLOCK_SM),
        memory_mhz=_told(nvml, nvml.nvmlDeviceGetClockInfo, gpu, nvml.NVML_CLOCK_MEM),
        temperature_c=_told(nvml, nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU),
        memory_used_bytes=None if memory is None else int(memory.used),
        energy_mj=_told(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, gpu),
        reasons=_told(nvml, reasons or nvml.nvmlDeviceGetCurrentClocksThrottleReasons, gpu),
    )


def energy_j(samples: Sequence[GpuSample]) -> float | None:
    """Energy in J from the first sample to the last; None with fewer than two samples or without power.

    By the GPU's own counter where it has one (Volta and later), else by the trapezoid rule over power.
    """
    if len(samples) < 2:
        return None
    first, last = samples[0].energy_mj, samples[-1].energy_mj
    if first is not None and last is not None and last > first:
        return (last - first) / 1000.0
    points = [(sample.seconds, float(sample.power_mw)) for sample in samples if sample.power_mw is not None]
    return integrate_power_j(points) if len(points) == len(samples) else None


def summarize(samples: Sequence[GpuSample]) -> dict[str, Any]:
    """Samples in a few figures that JSON can hold; None for what no sample tells.

    ``samples``, ``seconds``, ``power_mw``, ``sm_mhz``, ``temperature_c`` and ``memory_used_bytes`` with ``mean``,
    ``min`` and ``max``, ``energy_j``, ``reasons`` (the share of samples in which each held) and ``throttling`` (the
    names of those that slowed the GPU down, empty when none did).
    """
    bits = [sample.reasons for sample in samples if sample.reasons is not None]
    held = {name: sum(1 for value in bits if value & bit) for name, bit in REASONS.items()}
    return {
        "samples": len(samples),
        "seconds": samples[-1].seconds - samples[0].seconds if samples else 0.0,
        "power_mw": _spread([sample.power_mw for sample in samples]),
        "sm_mhz": _spread([sample.sm_mhz for sample in samples]),
        "temperature_c": _spread([sample.temperature_c for sample in samples]),
        "memory_used_bytes": _spread([sample.memory_used_bytes for sample in samples]),
        "energy_j": energy_j(samples),
        "reasons": {name: count / len(bits) for name, count in held.items() if count} if bits else None,
        "throttling": [name for name in THROTTLING if held[name]] if bits else None,
    }


def _import_bindings() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise MissingDependencyError(
            "nvidia-ml-py is not installed, so no GPU can be looked for",
            hint="pip install 'pocketformer[gpu]'",
        ) from error
    return pynvml


def _handle(nvml: Any, gpu: int | str) -> Any:
    if isinstance(gpu, str):
        return nvml.nvmlDeviceGetHandleByPciBusId(gpu)
    return nvml.nvmlDeviceGetHandleByIndex(gpu)


def _describe(nvml: Any, gpu: Any) -> dict[str, Any]:
    capability = _told(nvml, nvml.nvmlDeviceGetCudaComputeCapability, gpu)
    memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, gpu)
    bus = _told(nvml, nvml.nvmlDeviceGetPciInfo, gpu)
    facts = {
        "name": _told(nvml, nvml.nvmlDeviceGetName, gpu),
        "uuid": _told(nvml, nvml.nvmlDeviceGetUUID, gpu),
        "pci_bus_id": None if bus is None else _text(bus.busId),
        "compute_capability": capability and ".".join(str(part) for part in capability),
        "memory_bytes": None if memory is None else int(memory.total),
        "driver": _told(nvml, nvml.nvmlSystemGetDriverVersion),
        "cuda": _cuda_version(nvml),
        "power_limit_mw": _told(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, gpu),
    }
    for name, clock in (("sm_mhz", nvml.NVML_CLOCK_SM), ("memory_mhz", nvml.NVML_CLOCK_MEM)):
        facts[name] = _told(nvml, nvml.nvmlDeviceGetClockInfo, gpu, clock)
        facts[f"{name}_max"] = _told(nvml, nvml.nvmlDeviceGetMaxClockInfo, gpu, clock)
    return facts


def _text(value: str | bytes) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _spread(values: Sequence[int | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": sum(known) / len(known), "min": min(known), "max": max(known)}


def _cuda_version(nvml: Any) -> str | None:
    """NVML gives 12040 for CUDA 12.4."""
    number = _told(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"


def _told(nvml: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or None where this GPU or driver does not know the question."""
    try:
        return ask(*arguments)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NoPermission):
        return None
