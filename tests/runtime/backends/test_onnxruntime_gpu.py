"""Bound calls: on the CPU for real, on CUDA where there is a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketformer.runtime.backends.onnxruntime_gpu import BoundRun, gpu_options
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import DeviceError, VerificationError
from pocketformer.runtime.manifest import CPU_PROVIDER, SessionSettings
from pocketformer.runtime.placement import measure_placement
from pocketformer.runtime.providers import CUDA_PROVIDER, TENSORRT_PROVIDER


def feeds(batch: int, sequence: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(batch * sequence).integers(5, 40, (batch, sequence))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


@pytest.fixture(scope="module")
def engine(tiny_graph: Path) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(tiny_graph, SessionSettings(intra_op_threads=1))


@pytest.mark.parametrize("shape", [(1, 1), (3, 9)])
def test_bound_data_gives_the_same_logits(engine: OnnxRuntimeEngine, shape: tuple[int, int]) -> None:
    given = feeds(*shape)
    run = BoundRun(engine, given, device="cpu")
    run.call()
    first = run.output().copy()
    np.testing.assert_array_equal(first, engine.run(given))
    other = BoundRun(engine, feeds(2, 5), device="cpu")  # another shape in the same session
    other.call()
    run.call()
    np.testing.assert_array_equal(run.output(), first)


def test_a_shape_that_the_graph_does_not_take(engine: OnnxRuntimeEngine) -> None:
    with pytest.raises(VerificationError, match="bound to the device"):
        BoundRun(engine, feeds(1, 65), device="cpu")  # the tiny model has 64 positions


def test_a_device_that_takes_no_data(engine: OnnxRuntimeEngine) -> None:
    """A build without CUDA has no room there at all; where there is one, no GPU has this number."""
    with pytest.raises(DeviceError, match="onnxruntime cannot bind data to cuda: ") as caught:
        BoundRun(engine, feeds(1, 4), device="cuda", index=99)
    assert caught.value.exit_code == 4


def test_options_are_onnxruntime_s_own() -> None:
    assert gpu_options(1) == {CUDA_PROVIDER: {"device_id": "1"}, TENSORRT_PROVIDER: {"device_id": "1"}}
    options = gpu_options(stream=2**40, cuda_graph=True, fp16=True, engine_cache=Path("cache"))
    assert options[CUDA_PROVIDER] == {
        "device_id": "0",
        "user_compute_stream": "1099511627776",
        "enable_cuda_graph": "1",
    }
    assert options[TENSORRT_PROVIDER] == {
        "device_id": "0",
        "user_compute_stream": "1099511627776",
        "trt_fp16_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "cache",
        "trt_cuda_graph_enable": "1",
    }


@pytest.mark.gpu
def test_cuda_gives_the_same_logits(tiny_graph: Path, engine: OnnxRuntimeEngine) -> None:
    from pocketformer.runtime.backends.cuda import CudaDevice

    device = CudaDevice()
    # Nodes that only compute shapes stay on the CPU by onnxruntime's own choice.
    asked = SessionSettings(providers=(CUDA_PROVIDER, CPU_PROVIDER))
    options = gpu_options(stream=device.stream)
    on_gpu = OnnxRuntimeEngine(tiny_graph, asked, provider_options=options)
    given = feeds(3, 9)
    expected = engine.run(given)
    np.testing.assert_allclose(on_gpu.run(given), expected, atol=1e-3)
    bound = BoundRun(on_gpu, given, device="cuda")
    assert device.seconds(bound.call) > 0.0
    np.testing.assert_allclose(bound.output(), expected, atol=1e-3)
    placement = measure_placement(tiny_graph, asked, given, provider_options=options)
    assert placement.nodes[CUDA_PROVIDER] > placement.nodes.get(CPU_PROVIDER, 0)
