"""OpenVINO on a processor: its own IR (``.xml`` with a ``.bin`` beside it), or an ONNX file that it reads itself.

Properties are documented at docs.openvino.ai (Inference Devices and Modes, CPU Device). Python imports the package
only when a bundle asks for it. Nothing is converted here, so that nothing but OpenVINO's runtime is loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from pocketformer.runtime.backends.needs import refuse_providers, release
from pocketformer.runtime.engine import FloatArray, available_cores, missing_feed
from pocketformer.runtime.errors import MissingDependencyError, VerificationError
from pocketformer.runtime.manifest import SessionSettings

OPENVINO_PROVIDER = "OpenVINO"
INSTALL = 'pip install "pocketformer[openvino]"'


class OpenvinoEngine:
    """The graph at ``path`` compiled for this processor; ``run`` may be called from several threads at once.

    Of ``settings`` only ``intra_op_threads`` means something here. Floats stay float32 where OpenVINO would compute in
    bfloat16 by itself, so that every processor gives the same answers. ``minimum_version`` is the oldest OpenVINO that
    the graph runs with, ``content`` what the files of the graph hold, where they were read already. Raises
    ``MissingDependencyError`` without OpenVINO or with an older one, ``VerificationError`` when OpenVINO cannot load
    the graph, ``InputError`` when ``settings`` name providers of onnxruntime.
    """

    def __init__(
        self,
        path: Union[str, Path],
        settings: Optional[SessionSettings] = None,
        *,
        minimum_version: Optional[str] = None,
        content: Optional[Sequence[bytes]] = None,
    ) -> None:
        self.settings = SessionSettings() if settings is None else settings
        self.model_path = str(path)
        refuse_providers(path, "OpenVINO", self.settings)
        module = import_openvino(minimum_version)
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.settings.intra_op_threads or available_cores(),
            "INFERENCE_PRECISION_HINT": "f32",
            # Bound to a core each, the threads of two engines in one process would wait for one another.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = _core()
            self._compiled = core.compile_model(_read(core, self.model_path, content), "CPU", properties)
        except Exception as error:  # OpenVINO raises RuntimeError and ValueError of its own wording
            raise VerificationError(
                f"OpenVINO {module.__version__} cannot load {path}: {_first_lines(error)}",
                hint="Copy the bundle again, or install the OpenVINO that its manifest names, or newer.",
            ) from error
        self.input_names: tuple[str, ...] = tuple(port.any_name for port in self._compiled.inputs)
        output = self._compiled.outputs[0]
        self.output_name: str = output.any_name
        self.output_shape: tuple[Any, ...] = tuple(
            None if axis.is_dynamic else axis.get_length() for axis in output.partial_shape
        )
        self.providers: tuple[str, ...] = (OPENVINO_PROVIDER,)
        self._tensor = module.Tensor
        self._held = threading.local()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> FloatArray:
        """The graph's first output, usually logits [batch, labels]; feeds that the graph lacks are left out.

        Raises ``InputError`` when a feed is missing, ``VerificationError`` when the graph fails on these feeds.
        """
        try:
            # Shared and not copied, which OpenVINO does only with memory that could be written.
            values = [np.require(feeds[name], requirements=("C", "W")) for name in self.input_names]
        except KeyError as error:
            raise missing_feed(error, feeds, self.input_names) from error
        try:
            request = self._request()
            for index, value in enumerate(values):
                request.set_input_tensor(index, self._tensor(value, shared_memory=True))
            request.start_async()
            request.wait()
            # The request writes its next answer into the same memory.
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)
        except Exception as error:  # OpenVINO raises RuntimeError and ValueError of its own wording
            shapes = ", ".join(f"{name} {list(value.shape)} {value.dtype}" for name, value in feeds.items())
            raise VerificationError(
                f"{self.model_path} failed on {shapes}: {_first_lines(error)}",
                hint="Check shapes and types, and the bundle itself with `pocketformer verify`.",
            ) from error

    def _request(self) -> Any:
        """This thread's own request: one holds the tensors of a single call."""
        request = getattr(self._held, "request", None)
        if request is None:
            request = self._held.request = self._compiled.create_infer_request()
        return request


@cache
def _core() -> Any:
    """The one core of this process, which is never dropped.

    Each brings a stack for signal handlers and at its end puts back the one that it found. Of two that end in another
    order than they began, the second puts back a stack that is gone, and the next signal that Python handles, Ctrl-C
    among them, ends the process with a segmentation fault (seen in OpenVINO 2026.4).
    """
    return import_openvino(None).Core()


def _read(core: Any, path: str, content: Optional[Sequence[bytes]]) -> Any:
    if content is None:
        return core.read_model(path)
    return core.read_model(*content) if len(content) > 1 else core.read_model(content[0], b"")


def import_openvino(minimum_version: Optional[str] = None) -> Any:
    """The module ``openvino``; ``MissingDependencyError`` when it is absent or older than ``minimum_version``."""
    try:
        import openvino
    # A package whose shared libraries are missing raises OSError or RuntimeError.
    except Exception as error:
        raise MissingDependencyError(
            f"this bundle needs OpenVINO, which cannot be imported: {error}", hint=f"Install it: {INSTALL}."
        ) from error
    if minimum_version is not None and release(openvino.__version__) < release(minimum_version):
        raise MissingDependencyError(
            f"this bundle needs OpenVINO {minimum_version} or newer, and {openvino.__version__} is installed",
            hint="Install a newer one: pip install -U openvino.",
        )
    return openvino


def _first_lines(error: Exception) -> str:
    """What OpenVINO says without the places in its sources that it says it from."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(told or lines)[:400]
