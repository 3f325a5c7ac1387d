"""Stand-ins for what only a machine with a GPU has: NVIDIA's driver library, and a TensorRT that runs on it."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

_ERRORS = {100: b"no CUDA-capable device is detected", 2: b"out of memory"}


class StandInDriver:
    """Plays libcuda.so.1: memory is a table of byte strings, an event is the number of calls before it.

    Signatures are those of cuda.h. ``calls`` are the names in order; ``failing`` gives a function a result code.
    """

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}
        self.memory: dict[int, bytearray] = {}
        self.times: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        work = getattr(type(self), f"_{name}", None)

        def function(*arguments: Any) -> int:
            for argument in arguments:  # a plain int would lose its upper half on the way to C
                assert not isinstance(argument, int), f"{name} was passed a bare int"
            self.calls.append(name)
            if name in self.failing:
                return self.failing[name]
            if work is not None:
                work(self, *arguments)
            return 0

        return function

    def _cuGetErrorString(self, code: Any, text: Any) -> None:  # noqa: N802
        text._obj.value = _ERRORS.get(code.value)

    def _cuDeviceGetCount(self, count: Any) -> None:  # noqa: N802
        count._obj.value = self.gpus

    def _cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> None:  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[attribute.value]

    def _cuDeviceGetPCIBusId(self, name: Any, length: Any, device: Any) -> None:  # noqa: N802
        name.value = b"0000:01:00.0"

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:  # noqa: N802
        context._obj.value = 0x7F0000000001

    def _cuStreamCreate(self, stream: Any, flags: Any) -> None:  # noqa: N802
        stream._obj.value = 0x7F0000000100

    def _cuEventCreate(self, event: Any, flags: Any) -> None:  # noqa: N802
        event._obj.value = 0x7F0000000200 + len(self.calls)

    def _cuEventRecord(self, event: Any, stream: Any) -> None:  # noqa: N802
        self.times[event.value] = len(self.calls)

    def _cuEventElapsedTime(self, milliseconds: Any, start: Any, stop: Any) -> None:  # noqa: N802
        milliseconds._obj.value = float(self.times[stop.value] - self.times[start.value])

    def _cuMemAlloc_v2(self, address: Any, size: Any) -> None:  # noqa: N802
        address._obj.value = 0x7F1000000000 + len(self.calls)
        self.memory[address._obj.value] = bytearray(size.value)

    def _cuMemFree_v2(self, address: Any) -> None:  # noqa: N802
        del self.memory[address.value]

    def _cuMemcpyHtoDAsync_v2(self, address: Any, source: Any, size: Any, stream: Any) -> None:  # noqa: N802
        self.memory[address.value][: size.value] = ctypes.string_at(source.value, size.value)

    def _cuMemcpyDtoHAsync_v2(self, target: Any, address: Any, size: Any, stream: Any) -> None:  # noqa: N802
        content = bytes(self.memory[address.value][: size.value])
        ctypes.memmove(target.value, content, size.value)


class StandInTensorrt:
    """Plays the modules tensorrt and tensorrt_rtx: its one engine sums ids under the mask, times 1, 2 and 3.

    ``longest`` is the longest sequence of its profile. Names and results are those of TensorRT 10's Python API.
    """

    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")

    class ILogger:
        """What a logger derives from."""

    def __init__(self, driver: StandInDriver, version: str = "1.7.1") -> None:
        self.__version__ = version
        self.driver = driver
        self.longest = 16
        self.loads = True
        self.logger: Any = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.streams: list[int] = []
        self.num_io_tensors = 3

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        self.logger = logger
        return self

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        if self.loads:
            return self
        self.logger.log(SimpleNamespace(name="ERROR"), "cudaError 35")
        self.logger.log(SimpleNamespace(name="INFO"), "Loaded engine size: 0 MiB")
        return None

    def create_execution_context(self) -> Any:
        return self

    def get_tensor_name(self, index: int) -> str:
        return ("input_ids", "attention_mask", "logits")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "output" if name == "logits" else "input"

    def get_tensor_dtype(self, name: str) -> str:
        return "float" if name == "logits" else "int64"

    def nptype(self, dtype: str) -> Any:
        return {"float": np.float32, "int64": np.int64}[dtype]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shapes.get("input_ids", (-1,))[0], 3)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if shape[1] > self.longest:
            self.logger.log(SimpleNamespace(name="ERROR"), f"not in the profile:\n{list(shape)}")
            return False
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.append(stream)
        ids, mask = (
            np.frombuffer(
                bytes(self.driver.memory[self.addresses[name]]), np.int64, int(np.prod(self.shapes[name]))
            ).reshape(self.shapes[name])
            for name in ("input_ids", "attention_mask")
        )
        sums = (ids * mask).sum(axis=1, keepdims=True) * np.array([[1, 2, 3]])
        content = sums.astype(np.float32).tobytes()
        self.driver.memory[self.addresses["logits"]][: len(content)] = content
        return True


@pytest.fixture
def driver() -> StandInDriver:
    return StandInDriver()


@pytest.fixture
def tensorrt(driver: StandInDriver) -> StandInTensorrt:
    return StandInTensorrt(driver)
