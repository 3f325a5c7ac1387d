"""NVML: the refusal for real, the figures with a stand-in for NVIDIA's driver behind NVIDIA's own bindings.

The stand-in's GPU is an L4 as NVIDIA describes it: 24 GB and 72 W (nvidia.com/en-us/data-center/l4), compute capability
8.9 (developer.nvidia.com/cuda-gpus). Result codes, bits and units are those of docs.nvidia.com/deploy/nvml-api, by way
of the constants in nvidia-ml-py.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from pocketformer.runtime.backends.cuda import why_no_gpu
from pocketformer.runtime.errors import DeviceError, MissingDependencyError
from pocketformer.targets.gpu import measure_energy
from pocketformer.targets.machine import probe_machine
from pocketformer.targets.nvml import (
    REASONS,
    GpuSample,
    GpuSampler,
    energy_j,
    find_gpus,
    open_nvml,
    probe_gpu,
    probe_gpus,
    summarize,
)

pynvml = pytest.importorskip("pynvml")
BUS = "00000000:01:00.0"


class StandInNvml:
    """Plays pynvml with one L4; ``unsupported`` are functions that it does not know, ``lost`` those that fail."""

    def __init__(self) -> None:
        self.open = 0
        self.unsupported: set[str] = set()
        self.lost: set[str] = set()
        self.power_mw = 40_000
        self.reasons = pynvml.nvmlClocksEventReasonSwPowerCap
        self.energy_mj = 1_000_000

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or not hasattr(pynvml, name):
            return getattr(pynvml, name)
        if name in self.unsupported:
            return self._fail(pynvml.NVML_ERROR_NOT_SUPPORTED)
        if name in self.lost:
            return self._fail(pynvml.NVML_ERROR_GPU_IS_LOST)
        return getattr(type(self), f"_{name}").__get__(self)

    @staticmethod
    def _fail(code: int) -> Any:
        def function(*_: object) -> None:
            raise pynvml.NVMLError(code)

        return function

    def _nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def _nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def _nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if index != 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return "handle"

    def _nvmlDeviceGetHandleByPciBusId(self, bus: str) -> str:  # noqa: N802
        if int(bus.split(":")[1], 16) != 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "handle"

    def _nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "550.54.15"

    def _nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return 12040

    def _nvmlDeviceGetName(self, gpu: str) -> str:  # noqa: N802
        return "NVIDIA L4"

    def _nvmlDeviceGetUUID(self, gpu: str) -> str:  # noqa: N802
        return "GPU-00000000-0000-0000-0000-000000000000"

    def _nvmlDeviceGetPciInfo(self, gpu: str) -> Any:  # noqa: N802
        return SimpleNamespace(busId=BUS.encode())

    def _nvmlDeviceGetCudaComputeCapability(self, gpu: str) -> tuple[int, int]:  # noqa: N802
        return 8, 9

    def _nvmlDeviceGetMemoryInfo(self, gpu: str) -> Any:  # noqa: N802
        return SimpleNamespace(total=24 * 10**9, used=10**9)

    def _nvmlDeviceGetEnforcedPowerLimit(self, gpu: str) -> int:  # noqa: N802
        return 72_000

    def _nvmlDeviceGetClockInfo(self, gpu: str, clock: int) -> int:  # noqa: N802
        return {pynvml.NVML_CLOCK_SM: 1200, pynvml.NVML_CLOCK_MEM: 6251}[clock]

    def _nvmlDeviceGetMaxClockInfo(self, gpu: str, clock: int) -> int:  # noqa: N802
        return {pynvml.NVML_CLOCK_SM: 2040, pynvml.NVML_CLOCK_MEM: 6251}[clock]

    def _nvmlDeviceGetPowerUsage(self, gpu: str) -> int:  # noqa: N802
        return self.power_mw

    def _nvmlDeviceGetTemperature(self, gpu: str, sensor: int) -> int:  # noqa: N802
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 61

    def _nvmlDeviceGetTotalEnergyConsumption(self, gpu: str) -> int:  # noqa: N802
        self.energy_mj += 500
        return self.energy_mj

    def _nvmlDeviceGetCurrentClocksEventReasons(self, gpu: str) -> int:  # noqa: N802
        return self.reasons


@pytest.fixture
def nvml() -> StandInNvml:
    return StandInNvml()


def test_without_a_driver_it_says_so() -> None:
    if why_no_gpu() is None:
        assert probe_gpus()
        return
    with pytest.raises(DeviceError, match="no NVIDIA GPU that can be used: ") as caught:
        probe_gpus()
    assert caught.value.exit_code == 4
    with pytest.raises(DeviceError), GpuSampler():
        pass


def test_without_the_bindings_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingDependencyError) as caught:
        probe_gpus()
    assert "pocketformer[gpu]" in str(caught.value.hint)


def test_our_bits_are_nvidia_s() -> None:
    names = {
        "idle": "GpuIdle",
        "application-clocks": "ApplicationsClocksSetting",
        "software-power-cap": "SwPowerCap",
        "hardware-slowdown": "HwSlowdown",
        "sync-boost": "SyncBoost",
        "software-thermal-slowdown": "SwThermalSlowdown",
        "hardware-thermal-slowdown": "HwThermalSlowdown",
        "power-brake": "HwPowerBrakeSlowdown",
        "display-clocks": "DisplayClockSetting",
    }
    assert {ours: getattr(pynvml, f"nvmlClocksEventReason{name}") for ours, name in names.items()} == REASONS


def test_a_gpu_is_described(nvml: StandInNvml) -> None:
    (gpu,) = probe_gpus(nvml)
    assert gpu == {
        "name": "NVIDIA L4",
        "uuid": "GPU-00000000-0000-0000-0000-000000000000",
        "pci_bus_id": BUS,
        "compute_capability": "8.9",
        "memory_bytes": 24 * 10**9,
        "driver": "550.54.15",
        "cuda": "12.4",
        "power_limit_mw": 72_000,
        "sm_mhz": 1200,
        "sm_mhz_max": 2040,
        "memory_mhz": 6251,
        "memory_mhz_max": 6251,
    }
    assert json.loads(json.dumps(gpu)) == gpu
    assert probe_gpu("0000:01:00.0", nvml) == gpu  # as CUDA writes it
    with pytest.raises(DeviceError, match="NVML failed"):
        probe_gpu("0000:02:00.0", nvml)
    assert nvml.open == 0


def test_gpus_beside_the_processor(nvml: StandInNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    told = probe_machine(nvml)
    assert told["threads"] >= 1
    assert ([gpu["name"] for gpu in told["gpus"]], told["no_gpu"]) == (["NVIDIA L4"], None)
    monkeypatch.setattr(StandInNvml, "_nvmlDeviceGetCount", lambda _: 0)
    assert find_gpus(nvml) == ([], "NVML shows no GPU")
    if why_no_gpu() is not None:
        gpus, reason = find_gpus()
        assert gpus == []
        assert "no NVIDIA GPU that can be used" in str(reason)


def test_what_a_gpu_does_not_tell_is_none_and_a_lost_one_is_an_error(nvml: StandInNvml) -> None:
    nvml.unsupported = {"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetPciInfo"}
    (gpu,) = probe_gpus(nvml)
    assert gpu["power_limit_mw"] is gpu["memory_bytes"] is gpu["pci_bus_id"] is None
    nvml.lost = {"nvmlDeviceGetName"}
    with pytest.raises(DeviceError, match="NVML failed: GPU is lost"):
        probe_gpus(nvml)
    assert nvml.open == 0
    with pytest.raises(RuntimeError, match="ours"), open_nvml(nvml):
        raise RuntimeError("ours")
    assert nvml.open == 0


def test_samples_while_a_block_runs(nvml: StandInNvml) -> None:
    with GpuSampler(bindings=nvml, interval_s=0.001) as sampler:
        while len(sampler.samples) < 4:
            time.sleep(0.001)
        nvml.reasons = pynvml.nvmlClocksEventReasonHwThermalSlowdown | pynvml.nvmlClocksEventReasonGpuIdle
    assert sampler.failure is None
    assert nvml.open == 0
    first, last = sampler.samples[0], sampler.samples[-1]
    assert (first.power_mw, first.sm_mhz, first.memory_mhz, first.temperature_c) == (40_000, 1200, 6251, 61)
    assert last.seconds > first.seconds
    told = summarize(sampler.samples)
    assert told["throttling"] == ["software-power-cap", "hardware-thermal-slowdown"]
    assert told["energy_j"] == pytest.approx(0.5 * (len(sampler.samples) - 1))  # by the GPU's counter
    assert json.loads(json.dumps(told)) == told


def test_a_gpu_that_is_lost_on_the_way_ends_sampling_and_nothing_else(nvml: StandInNvml) -> None:
    with GpuSampler(bindings=nvml, interval_s=0.001) as sampler:
        nvml.lost = {"nvmlDeviceGetPowerUsage"}
    assert "GPU is lost" in str(sampler.failure)
    assert sampler.samples
    assert nvml.open == 0
    with pytest.raises(DeviceError, match="GPU 3 cannot be sampled"), GpuSampler(3, bindings=nvml):
        pass
    assert nvml.open == 0


def test_energy_by_power_where_there_is_no_counter() -> None:
    samples = [
        GpuSample(0.0, power_mw=10_000),
        GpuSample(1.0, power_mw=30_000),
        GpuSample(3.0, power_mw=30_000),
    ]
    assert energy_j(samples) == pytest.approx(80.0)
    assert energy_j(samples[:1]) is None
    assert energy_j([*samples, GpuSample(4.0)]) is None  # a part of the time would look like a total
    assert energy_j([]) is None


def test_a_summary_says_what_it_does_not_know() -> None:
    empty = summarize([])
    assert (empty["samples"], empty["seconds"], empty["throttling"], empty["power_mw"]) == (
        0,
        0.0,
        None,
        None,
    )
    idle = summarize([GpuSample(0.0, reasons=1), GpuSample(2.0, reasons=0)])
    assert (idle["throttling"], idle["reasons"], idle["seconds"]) == ([], {"idle": 0.5}, 2.0)


def test_energy_of_an_inference(nvml: StandInNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketformer.targets.gpu._IDLE_S", 0.01)
    nvml.unsupported = {"nvmlDeviceGetTotalEnergyConsumption"}
    calls: list[int] = []

    def call() -> None:
        nvml.power_mw = 60_000
        calls.append(1)
        time.sleep(0.01)

    told = measure_energy(call, 0.8, bindings=nvml)
    assert told is not None
    assert told["inferences"] == len(calls)
    assert told["idle_mw"] == 40_000
    assert 40_000 < told["mean_mw"] <= 60_000
    assert told["per_inference_mj"] == pytest.approx(told["mean_mw"] * told["seconds"] / len(calls))
    nvml.unsupported.add("nvmlDeviceGetPowerUsage")
    assert measure_energy(call, 0.0, bindings=nvml) is None


@pytest.mark.gpu
def test_a_real_gpu_tells_its_power() -> None:
    with GpuSampler(interval_s=0.05) as sampler:
        time.sleep(0.3)
    assert len(sampler.samples) >= 3
    assert any(sample.power_mw for sample in sampler.samples)
