"""Sessions for other providers: each reason for a refusal is met, and none ends on the CPU in silence.

That onnxruntime does fall back in silence is seen with its real build; a build for GPUs without its libraries is
played by a stand-in, which does what onnxruntime-gpu 1.31.1 did on a machine without CUDA.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from pocketformer.runtime import providers
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import DeviceError, InputError, VerificationError
from pocketformer.runtime.manifest import CPU_PROVIDER, SessionSettings
from pocketformer.runtime.placement import measure_placement
from pocketformer.runtime.providers import CUDA_PROVIDER, TENSORRT_PROVIDER

# A provider for models in Microsoft's cloud that the wheel for CPUs carries; it runs no operator of ours.
AZURE = "AzureExecutionProvider"
FEEDS = {
    "input_ids": np.full((1, 4), 5, dtype=np.int64),
    "attention_mask": np.ones((1, 4), dtype=np.int64),
    "token_type_ids": np.zeros((1, 4), dtype=np.int64),
}
needs_azure = pytest.mark.skipif(
    AZURE not in ort.get_available_providers(), reason="this onnxruntime has no second provider"
)


def settings(*names: str) -> SessionSettings:
    return SessionSettings(intra_op_threads=1, providers=names)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "DRIVER_LIBRARY", "libno-such-driver.so.1")


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize(
    "names", [(CUDA_PROVIDER,), (TENSORRT_PROVIDER, CUDA_PROVIDER), (CUDA_PROVIDER, CPU_PROVIDER)]
)
def test_without_a_driver_nothing_falls_back(
    tiny_graph: Path, names: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeviceError) as caught:
        OnnxRuntimeEngine(tiny_graph, settings(*names))
    assert caught.value.exit_code == 4
    assert "libno-such-driver.so.1" in caught.value.message
    assert names[0] in caught.value.message
    assert CPU_PROVIDER not in caught.value.message.partition(" cannot be used here")[0]
    assert "onnxruntime-gpu" in str(caught.value.hint)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_driver")
def test_a_build_without_the_provider_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU_PROVIDER])
    build, driver = providers.what_is_missing(CUDA_PROVIDER)
    assert f"onnxruntime {ort.__version__} was built without it" in build
    assert "no NVIDIA driver" in driver
    assert providers.what_is_missing("QNNExecutionProvider") == (build,)
    assert providers.what_is_missing(CPU_PROVIDER) == ()


@needs_azure
def test_operators_that_a_provider_lacks_do_not_go_to_the_cpu(
    tiny_graph: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = ort.InferenceSession(tiny_graph, providers=[AZURE])
    assert CPU_PROVIDER in session.get_providers()  # what onnxruntime does when nobody stops it
    with pytest.raises(DeviceError, match=f"operators that {AZURE} cannot run") as caught:
        OnnxRuntimeEngine(tiny_graph, settings(AZURE))
    assert CPU_PROVIDER in str(caught.value.hint)
    assert capfd.readouterr() == ("", "")


@needs_azure
def test_a_cpu_that_was_asked_for_is_counted(tiny_graph: Path) -> None:
    asked = settings(AZURE, CPU_PROVIDER)
    engine = OnnxRuntimeEngine(tiny_graph, asked)
    assert engine.providers == (AZURE, CPU_PROVIDER)
    np.testing.assert_array_equal(
        engine.run(FEEDS), OnnxRuntimeEngine(tiny_graph, settings(CPU_PROVIDER)).run(FEEDS)
    )
    placement = measure_placement(tiny_graph, asked, FEEDS)
    assert list(placement.nodes) == [CPU_PROVIDER]
    assert placement.fallback([AZURE]) == placement.operators[CPU_PROVIDER]


@needs_azure
def test_a_damaged_graph_is_not_taken_for_a_missing_device(tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(VerificationError, match="cannot load"):
        OnnxRuntimeEngine(broken, settings(AZURE, CPU_PROVIDER))


# What onnxruntime-gpu 1.31.1 said with CUDA 13 and a driver that knew nothing of it, shortened in its middle.
CUDA_FAILURE = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 CudaCall(...) [with THRW = true] "
    "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=my-host ; "
    "file=/onnxruntime_src/x.cc"
)


class StandInBuild:
    """A build of onnxruntime for GPUs whose libraries are missing: it gives a CPU session, or fails."""

    __version__ = "0-stand-in"

    def __init__(self, folder: Path, error: str = "") -> None:
        self.__file__ = str(folder / "__init__.py")
        self.error = error

    def get_available_providers(self) -> list[str]:
        return [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER]

    def preload_dlls(self) -> None:
        print("Failed to load libcublas")

    def InferenceSession(self, *arguments: Any, **options: Any) -> Any:  # noqa: N802
        if self.error:
            raise RuntimeError(self.error)
        return SimpleNamespace(get_providers=lambda: [CPU_PROVIDER])


@pytest.mark.parametrize(
    ("error", "library", "words"),
    [
        ("", b"", "a library is missing or does not fit: "),
        ("", None, "did not say why"),
        ("Please install TensorRT libraries", b"", "a library is missing or does not fit: "),
        (
            CUDA_FAILURE,
            None,
            "here: CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version$",
        ),
    ],
)
def test_a_cpu_session_in_place_of_a_gpu_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: str,
    library: bytes | None,
    words: str,
) -> None:
    (tmp_path / "capi").mkdir()
    if library is not None:
        (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(library)
    monkeypatch.setattr(providers, "ort", StandInBuild(tmp_path, error))
    monkeypatch.setattr(providers, "driver_missing", lambda: ())
    with pytest.raises(DeviceError) as caught:
        providers.create_session("model.onnx", ort.SessionOptions(), [CUDA_PROVIDER])
    assert re.search(words, caught.value.message)
    assert "my-host" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_short_names() -> None:
    assert providers.provider_name("CUDA") == CUDA_PROVIDER
    assert providers.provider_name(TENSORRT_PROVIDER) == TENSORRT_PROVIDER
    with pytest.raises(InputError, match="gpu") as caught:
        providers.provider_name("gpu")
    assert "cpu, cuda, tensorrt" in str(caught.value.hint)
