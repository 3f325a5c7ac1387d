"""The driver's API: refusals for real, the rest with a stand-in for the driver's library, and on a GPU where one is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pocketformer.runtime import providers
from pocketformer.runtime.backends import cuda
from pocketformer.runtime.backends.cuda import CudaDevice
from pocketformer.runtime.errors import DeviceError


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "DRIVER_LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(DeviceError, match=r"no NVIDIA driver \(libno-such-driver") as caught:
        CudaDevice()
    assert caught.value.exit_code == 4
    assert cuda.why_no_gpu() == caught.value.message


def test_what_a_device_is(driver: Any) -> None:
    device = CudaDevice(library=driver)
    assert (device.compute_capability, device.pci_bus_id) == ("8.9", "0000:01:00.0")
    assert device.stream == 0x7F0000000100
    assert driver.calls[0] == "cuInit"
    assert driver.calls.index("cuCtxSetCurrent") < driver.calls.index("cuStreamCreate")


@pytest.mark.parametrize(("gpus", "index"), [(0, 0), (2, 2), (1, -1)])
def test_a_gpu_that_is_not_there(driver: Any, gpus: int, index: int) -> None:
    driver.gpus = gpus
    with pytest.raises(DeviceError, match=f"no GPU number {index}: CUDA shows {gpus}"):
        CudaDevice(index, library=driver)


def test_the_driver_s_own_words(driver: Any) -> None:
    driver.failing["cuInit"] = 100
    with pytest.raises(DeviceError, match=r"failed in cuInit: no CUDA-capable device is detected \(100\)"):
        CudaDevice(library=driver)
    driver.failing = {"cuMemAlloc_v2": 2}
    device = CudaDevice(library=driver)
    with pytest.raises(DeviceError, match="out of memory"):
        device.allocate(8)
    driver.failing = {"cuCtxSetCurrent": 999}
    with pytest.raises(DeviceError, match=r"unknown error \(999\)"):
        device.make_current()


def check_memory(device: CudaDevice) -> None:
    values = np.arange(6, dtype=np.int64).reshape(2, 3)
    address = device.allocate(values.nbytes)
    device.copy_in(address, values)
    device.synchronize()
    back = device.copy_out(address, (2, 3), np.int64)
    device.synchronize()
    np.testing.assert_array_equal(back, values)
    device.free(address)


def test_memory_there_and_back(driver: Any) -> None:
    check_memory(CudaDevice(library=driver))
    assert driver.memory == {}


def test_events_stand_around_the_work(driver: Any) -> None:
    device = CudaDevice(library=driver)
    driver.calls.clear()
    seconds = device.seconds(lambda: device.allocate(1))
    assert driver.calls == [
        "cuEventRecord", "cuMemAlloc_v2", "cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime",
    ]  # fmt: skip
    assert seconds == pytest.approx(
        0.002
    )  # the stand-in counts a millisecond a call: the work and the second event


@pytest.mark.gpu
def test_a_real_gpu() -> None:
    device = CudaDevice()
    assert float(device.compute_capability) >= 5.0
    check_memory(device)
    values = np.zeros(1 << 20, dtype=np.int64)
    address = device.allocate(values.nbytes)
    assert device.seconds(lambda: device.copy_in(address, values)) > 0.0
    device.free(address)
