"""Engines of TensorRT and TensorRT-RTX: refused unless they fit this machine, then run on its GPU.

The API is that of TensorRT 10 and later (docs.nvidia.com/deeplearning/tensorrt, Python API, IExecutionContext).
Experimental: refusals ran with TensorRT-RTX on a machine without a GPU; no engine has ever been executed.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from pocketformer.runtime.backends.cuda import CudaDevice
from pocketformer.runtime.engine import FloatArray
from pocketformer.runtime.errors import InputError, MissingDependencyError, VerificationError
from pocketformer.runtime.fingerprint import check_fingerprint, read_fingerprint
from pocketformer.runtime.tensorrt.library import LIBRARIES


class TensorrtEngine:
    """The engine at ``path``, which its fingerprint stands beside; ``run`` may be called from several threads.

    Raises ``VerificationError`` for an engine that is damaged or was built for another library version or GPU,
    ``MissingDependencyError`` without the library that built it, ``DeviceError`` without a driver or GPU.
    ``device`` and ``library`` take the place of the GPU and of the imported library in tests.
    """

    def __init__(
        self, path: Union[str, Path], *, device: Optional[CudaDevice] = None, library: Any = None
    ) -> None:
        self.model_path = str(path)
        known = read_fingerprint(Path(path))
        module = _import(known.library) if library is None else library
        self.device = CudaDevice() if device is None else device
        check_fingerprint(
            Path(path),
            library_version=str(module.__version__),
            compute_capability=self.device.compute_capability,
        )
        self._logger = _logger(module)
        # These must outlive one another in this order: C++ objects refer to each other without owning.
        self._runtime = module.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(Path(path).read_bytes())
        self._context: Any = None if self._engine is None else self._engine.create_execution_context()
        if self._context is None:
            raise VerificationError(
                f"{known.library} {module.__version__} cannot load {path}: {self._said()}",
                hint="Build the engine again on or for this GPU.",
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == module.TensorIOMode.INPUT]
        self.input_names: tuple[str, ...] = tuple(inputs)
        self.output_name: str = next(name for name in names if name not in inputs)
        self.output_shape: tuple[Any, ...] = tuple(self._engine.get_tensor_shape(self.output_name))
        self.providers: tuple[str, ...] = (known.library,)
        self._types = {
            name: np.dtype(module.nptype(self._engine.get_tensor_dtype(name)))
            for name in (*inputs, self.output_name)
        }
        self._buffers: dict[str, tuple[int, int]] = {}
        self._held: list[NDArray[Any]] = []
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> FloatArray:
        """The first output for ``feeds``, copied there and back; errors as ``OnnxRuntimeEngine.run``."""
        with self._lock:
            self.device.make_current()
            shape = self.prepare(feeds)
            self.execute()
            address = self._buffers[self.output_name][0]
            output = self.device.copy_out(address, shape, self._types[self.output_name])
            self.device.synchronize()
        return np.asarray(output, dtype=np.float32)

    def prepare(self, feeds: Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
        """Bring ``feeds`` to the GPU and make room for the output, whose shape is returned."""
        self._held.clear()
        for name in self.input_names:
            if name not in feeds:
                raise InputError(
                    f"the engine's input {name!r} is not among the feeds {', '.join(feeds)}",
                    hint=f"Feed {', '.join(self.input_names)}.",
                )
            values = np.ascontiguousarray(feeds[name], dtype=self._types[name])
            if not self._context.set_input_shape(name, values.shape):
                raise VerificationError(
                    f"{self.model_path} takes no {name} of {list(values.shape)}: {self._said()}",
                    hint="Its fingerprint names the profile of shapes that it was built for.",
                )
            self._held.append(values)  # until the queued copy has been made
            self.device.copy_in(self._room(name, values.nbytes), values)
        shape = tuple(self._context.get_tensor_shape(self.output_name))
        self._room(self.output_name, int(np.prod(shape)) * self._types[self.output_name].itemsize)
        self.device.synchronize()
        return shape

    def execute(self) -> None:
        """Queue one run on what ``prepare`` brought; ``VerificationError`` when TensorRT refuses."""
        if not self._context.execute_async_v3(self.device.stream):
            raise VerificationError(
                f"{self.model_path} failed: {self._said()}", hint="Build the engine again on or for this GPU."
            )

    def _room(self, name: str, size: int) -> int:
        """The address of at least ``size`` bytes for a tensor, told to the context; kept for the next run."""
        address, room = self._buffers.get(name, (0, 0))
        if room < size or not address:
            if address:
                self.device.free(address)
            address, room = self.device.allocate(size), size
            self._buffers[name] = (address, room)
        self._context.set_tensor_address(name, address)
        return address

    def _said(self) -> str:
        return self._logger.lines[-1] if self._logger.lines else "no reason given"


def _import(name: str) -> Any:
    if name not in LIBRARIES:
        raise VerificationError(
            f"the fingerprint names the library {name!r}", hint=f"Known are {', '.join(LIBRARIES)}."
        )
    try:
        return importlib.import_module(name)
    # A package whose shared libraries are missing raises OSError, AttributeError or RuntimeError.
    except Exception as error:
        raise MissingDependencyError(
            f"this engine needs {name}, which cannot be imported: {error}",
            hint="On a Jetson it comes with JetPack; elsewhere see docs/gpu.md.",
        ) from error


def _logger(module: Any) -> Any:
    """What the library says of errors, oldest first, in ``lines``."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if getattr(severity, "name", str(severity)) in ("ERROR", "INTERNAL_ERROR"):
                self.lines.append(" ".join(message.split()))

    return Logger()
