"""onnxruntime on a GPU: options of its CUDA and TensorRT providers, and calls whose data stays on the device.

Options are documented at onnxruntime.ai/docs/execution-providers (CUDA-ExecutionProvider, TensorRT-ExecutionProvider).
Experimental: the binding runs in the tests on the CPU, nothing here ever ran on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pocketformer.runtime.engine import FloatArray, OnnxRuntimeEngine
from pocketformer.runtime.errors import DeviceError, PocketformerError, VerificationError
from pocketformer.runtime.providers import CUDA_PROVIDER, TENSORRT_PROVIDER

# A run with this number neither records nor replays a CUDA graph.
_NO_GRAPH = "-1"


def gpu_options(
    index: int = 0,
    *,
    stream: Optional[int] = None,
    cuda_graph: bool = False,
    fp16: bool = False,
    engine_cache: Optional[Path] = None,
) -> dict[str, dict[str, str]]:
    """``provider_options`` for the GPU ``index``, by provider.

    ``stream``: the handle of the CUDA stream to work on, so that events on it time the work. ``cuda_graph``: record
    the kernels of a shape once and replay them; every operator must run on the GPU. ``fp16`` lets TensorRT compute in
    half precision where it is faster, ``engine_cache`` is a folder where it keeps the engines that it builds.
    """
    shared = {"device_id": str(index)}
    if stream is not None:
        shared["user_compute_stream"] = str(stream)
    tensorrt = dict(shared)
    if fp16:
        tensorrt["trt_fp16_enable"] = "1"
    if engine_cache is not None:
        tensorrt["trt_engine_cache_enable"] = "1"
        tensorrt["trt_engine_cache_path"] = str(engine_cache)
    if cuda_graph:
        shared["enable_cuda_graph"] = "1"
        tensorrt["trt_cuda_graph_enable"] = "1"
    return {CUDA_PROVIDER: shared, TENSORRT_PROVIDER: tensorrt}


class BoundRun:
    """``engine`` bound to ``feeds`` on ``device`` ("cpu" or "cuda"): ``call`` copies nothing between host and device.

    Inputs and output keep their addresses, as CUDA graphs want it; ``graph_id`` numbers the graph of this shape,
    from 1 on, in a session that was opened for CUDA graphs. Raises as ``OnnxRuntimeEngine.run``, and ``DeviceError``
    when the device has no room for the data.
    """

    def __init__(
        self,
        engine: OnnxRuntimeEngine,
        feeds: Mapping[str, NDArray[Any]],
        *,
        device: str,
        index: int = 0,
        graph_id: Optional[int] = None,
    ) -> None:
        self._session = engine.session
        self._options = ort.RunOptions()
        try:
            self._bind(engine, feeds, device, index, graph_id)
        except PocketformerError:
            raise
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise DeviceError(
                f"onnxruntime cannot bind data to {device}: {error}",
                hint="Often the GPU has no memory left: nvidia-smi shows what else uses it.",
            ) from error

    def _bind(
        self,
        engine: OnnxRuntimeEngine,
        feeds: Mapping[str, NDArray[Any]],
        device: str,
        index: int,
        graph_id: Optional[int],
    ) -> None:
        self._binding = engine.session.io_binding()
        if graph_id is not None:
            self._options.add_run_config_entry("gpu_graph_id", _NO_GRAPH)
        for name in engine.input_names:
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(feeds[name]), device, index)
            self._binding.bind_ortvalue_input(name, value)
        # The first call lets onnxruntime choose the place of the output and so tells its shape.
        self._binding.bind_output(engine.output_name, device, index)
        self.call()
        first = self._binding.get_outputs()[0]
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(first.shape(), np.float32, device, index)
        self._binding.bind_ortvalue_output(engine.output_name, self._output)
        if graph_id is not None:
            self._options = ort.RunOptions()
            self._options.add_run_config_entry("gpu_graph_id", str(graph_id))

    def call(self) -> None:
        """Run once; the work has ended when this returns."""
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise VerificationError(
                f"onnxruntime failed on data bound to the device: {error}",
                hint="Check the bundle with `pocketformer verify`.",
            ) from error

    def output(self) -> FloatArray:
        """What the last call computed, on the host."""
        values: FloatArray = self._output.numpy()
        return values
