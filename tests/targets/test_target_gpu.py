"""A GPU is measured by code that measures the CPU as well: there it runs here, and refuses what is not here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pocketformer.runtime import providers
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import DeviceError, InputError
from pocketformer.runtime.manifest import CPU_PROVIDER, SessionSettings
from pocketformer.runtime.model import load
from pocketformer.runtime.placement import Placement
from pocketformer.targets.gpu import measure_gpu, require_work_on, time_on_device


def test_the_same_code_measures_the_cpu(small_bundle: Path, tiny_texts: list[str]) -> None:
    result = measure_gpu(
        small_bundle, tiny_texts[:6], providers=[CPU_PROVIDER], rounds=5, time_limit_s=3600.0
    )
    assert result.providers == (CPU_PROVIDER,)
    assert set(result.host) == {"real", "1x32"}  # the tiny model has 64 positions
    assert len(result.host["1x32"].seconds) == 5
    assert [note.split(":")[0] for note in result.notes] == ["1x128", "8x128"]
    assert result.placement.nodes[CPU_PROVIDER] > 10
    assert result.fallback_operators == {}
    assert (dict(result.device), result.gpu, result.watch, result.energy) == ({}, None, None, None)
    assert result.cuda_graph is False
    assert [(check.name, check.ok) for check in result.golden] == [("logits", True), ("labels", True)]


def test_the_texts_are_answered_by_what_is_timed(small_bundle: Path, tiny_texts: list[str]) -> None:
    heard: list[str] = []
    result = measure_gpu(
        small_bundle,
        tiny_texts[:2],
        providers=[CPU_PROVIDER],
        rounds=5,
        answer=tiny_texts,
        on_progress=heard.append,
    )
    np.testing.assert_array_equal(result.logits, load(small_bundle).logits(tiny_texts))
    assert heard == ["looking what runs where", "answering 60 texts", "timing real", "timing 1x32"]


def test_who_listens_can_end_it(small_bundle: Path) -> None:
    def stop(message: str) -> None:
        raise DeviceError(f"stopped at {message}")

    with pytest.raises(DeviceError, match="stopped at looking what runs where"):
        measure_gpu(small_bundle, ["cat"], providers=[CPU_PROVIDER], on_progress=stop)


def test_what_ran_on_the_cpu_alone_is_no_measurement_of_a_gpu() -> None:
    both = Placement({providers.CUDA_PROVIDER: {"MatMul": 1}, CPU_PROVIDER: {"Gather": 5}})
    require_work_on(both, [providers.TENSORRT_PROVIDER, providers.CUDA_PROVIDER])
    alone = Placement({CPU_PROVIDER: {"DynamicQuantizeMatMul": 3, "Gather": 2}})
    with pytest.raises(
        DeviceError, match=r"nothing of the graph ran on CUDA\w+: CPUExecutionProvider all 5"
    ) as caught:
        require_work_on(alone, [providers.CUDA_PROVIDER])
    assert caught.value.exit_code == 4


def test_calls_on_bound_data_are_timed_by_the_device(small_bundle: Path) -> None:
    engine = OnnxRuntimeEngine(small_bundle / "model.onnx", SessionSettings(intra_op_threads=1))
    calls: list[Any] = []

    def seconds(work: Any) -> float:
        calls.append(work())
        return 0.001 * len(calls)

    stand_in = SimpleNamespace(index=0, seconds=seconds)  # for CudaDevice, whose events need a GPU
    feeds = [
        {
            name: np.ones((1, length), dtype=np.int64)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        }
        for length in (3, 8)
    ]
    timing = time_on_device(stand_in, engine, feeds, rounds=6, place="cpu")  # type: ignore[arg-type]
    assert timing.seconds == pytest.approx([0.001, 0.002, 0.003, 0.004, 0.005, 0.006])
    assert timing.latency.samples == len(calls) == 6


def test_without_a_gpu_nothing_is_measured(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "DRIVER_LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(DeviceError, match="no NVIDIA driver") as caught:
        measure_gpu(small_bundle, ["cat"])
    assert caught.value.exit_code == 4
    with pytest.raises(InputError, match="no texts"):
        measure_gpu(small_bundle, [])


@pytest.mark.gpu
def test_a_real_gpu_is_measured(small_bundle: Path, tiny_texts: list[str]) -> None:
    result = measure_gpu(
        small_bundle,
        tiny_texts[:6],
        providers=[providers.CUDA_PROVIDER, CPU_PROVIDER],
        rounds=5,
        energy_s=1.0,
        answer=tiny_texts,
    )
    assert result.logits.shape == (60, 3)
    assert result.placement.nodes[providers.CUDA_PROVIDER] > 0
    assert result.gpu is not None
    assert result.watch is not None
    for name, timing in result.device.items():
        assert min(timing.seconds) > 0.0
        assert timing.latency.p50 < result.host[name].latency.p90
