"""One NVIDIA GPU through the driver's own library: a stream, memory and events, and nothing that must be installed.

The functions are those of the CUDA driver API (docs.nvidia.com/cuda/cuda-driver-api). Experimental: this has never
run on a GPU; tests drive it with a stand-in for the library.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from pocketformer.runtime.errors import DeviceError
from pocketformer.runtime.providers import load_driver

# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR, CU_STREAM_NON_BLOCKING and CU_EVENT_DEFAULT in cuda.h.
_MAJOR, _MINOR = 75, 76
_NON_BLOCKING = 1
_EVENT_DEFAULT = 0


class CudaDevice:
    """The GPU with this ``index`` among those that CUDA shows; the context is the one that onnxruntime uses too.

    ``compute_capability`` is such as "8.9", ``pci_bus_id`` such as "0000:01:00.0", ``stream`` the handle of the stream
    that everything here goes to. Raises ``DeviceError`` without a driver or such a GPU, and whenever the driver reports
    an error. ``library`` takes the place of the driver's library in tests.
    """

    def __init__(self, index: int = 0, *, library: Any = None) -> None:
        self._library = load_driver() if library is None else library
        self._call("cuInit", ctypes.c_uint(0))
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if not 0 <= index < count.value:
            raise DeviceError(
                f"there is no GPU number {index}: CUDA shows {count.value}",
                hint="Count from 0; CUDA_VISIBLE_DEVICES hides GPUs.",
            )
        self.index = index
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
        self.compute_capability = f"{self._attribute(_MAJOR, device)}.{self._attribute(_MINOR, device)}"
        name = ctypes.create_string_buffer(32)
        self._call("cuDeviceGetPCIBusId", name, ctypes.c_int(len(name)), device)
        self.pci_bus_id = name.value.decode("ascii", "replace")
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.make_current()
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(_NON_BLOCKING))
        self.stream = int(stream.value or 0)
        self._start, self._stop = self._event(), self._event()

    def make_current(self) -> None:
        """Let the calling thread use this GPU; each thread must once before its first call."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes of the GPU's memory; they stay until the process ends or ``free``."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(1, size)))
        return int(address.value)

    def free(self, address: int) -> None:
        """Give memory of ``allocate`` back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def copy_in(self, address: int, values: NDArray[Any]) -> None:
        """Queue a copy of a contiguous array to the GPU; keep the array until ``synchronize``."""
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(values.ctypes.data),
            ctypes.c_size_t(values.nbytes),
            ctypes.c_void_p(self.stream),
        )

    def copy_out(self, address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Queue a copy from the GPU into a new array, which holds it after ``synchronize``."""
        values = np.empty(shape, dtype=dtype)
        self._call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(values.ctypes.data),
            ctypes.c_uint64(address),
            ctypes.c_size_t(values.nbytes),
            ctypes.c_void_p(self.stream),
        )
        return values

    def synchronize(self) -> None:
        """Wait for all that was queued."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(self.stream))

    def seconds(self, work: Callable[[], object]) -> float:
        """How long the GPU takes for what ``work`` queues on ``stream``, by events before and after it.

        Kernels and the gaps between them count; copies count only if ``work`` makes them. CUDA states a resolution
        of about 0.5 microseconds.
        """
        stream = ctypes.c_void_p(self.stream)
        self._call("cuEventRecord", self._start, stream)
        work()
        self._call("cuEventRecord", self._stop, stream)
        self._call("cuEventSynchronize", self._stop)
        milliseconds = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(milliseconds), self._start, self._stop)
        return milliseconds.value / 1000.0

    def _attribute(self, number: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), device)
        return value.value

    def _event(self) -> ctypes.c_void_p:
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(_EVENT_DEFAULT))
        return event

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code == 0:
            return
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
        said = (text.value or b"unknown error").decode("utf-8", "replace")
        raise DeviceError(
            f"the NVIDIA driver failed in {name}: {said} ({code})",
            hint="`pocketformer doctor` and nvidia-smi tell what the driver sees.",
        )


def why_no_gpu() -> Optional[str]:
    """What keeps CUDA from working here; None where it shows a GPU."""
    try:
        CudaDevice()
    except DeviceError as error:
        return error.message
    return None


def driver_version(library: Any = None) -> Optional[str]:
    """The newest CUDA that the NVIDIA driver here takes, such as "12.4"; None without one."""
    try:
        driver = load_driver() if library is None else library
    except DeviceError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
