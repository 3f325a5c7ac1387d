"""Engines of TensorRT: refusals for real with TensorRT-RTX, a run with stand-ins for the library and the driver."""

from __future__ import annotations

import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.runtime import providers
from pocketformer.runtime.backends import cuda
from pocketformer.runtime.backends.cuda import CudaDevice
from pocketformer.runtime.backends.tensorrt import TensorrtEngine
from pocketformer.runtime.errors import DeviceError, InputError, MissingDependencyError, VerificationError
from pocketformer.runtime.fingerprint import Fingerprint, fingerprint_path, read_fingerprint
from pocketformer.runtime.manifest import TensorSpec, file_entry, read_manifest, sha256_file
from pocketformer.runtime.model import load
from pocketformer.runtime.verify import verify


def write_engine(path: Path, version: str = "1.7.1", library: str = "tensorrt_rtx") -> Path:
    path.write_bytes(b"machine code")
    fingerprint = Fingerprint(
        library=library,
        library_version=version,
        compute_capabilities=("8.6", "8.9"),
        graph_sha256="0" * 64,
        engine_sha256=sha256_file(path),
        profile={"batch": [1, 1, 8], "sequence": [1, 8, 16]},
        precision="fp16",
    )
    fingerprint_path(path).write_text(fingerprint.to_json())
    return path


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_engine(tmp_path / "model.engine")


@pytest.fixture
def open_engine(engine: Path, driver: Any, tensorrt: Any) -> Any:
    return lambda: TensorrtEngine(engine, device=CudaDevice(library=driver), library=tensorrt)


def feeds(batch: int, sequence: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(7).integers(1, 40, (batch, sequence)).astype(np.int32)
    mask = np.ones((batch, sequence), dtype=np.int64)
    mask[:, -1] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}


def expected(given: dict[str, np.ndarray]) -> np.ndarray:
    return (given["input_ids"] * given["attention_mask"]).sum(axis=1, keepdims=True) * np.array([[1, 2, 3]])


def test_runs_of_several_shapes(open_engine: Any, driver: Any, tensorrt: Any) -> None:
    opened = open_engine()
    assert opened.input_names == ("input_ids", "attention_mask")
    assert opened.output_shape == (-1, 3)
    assert opened.providers == ("tensorrt_rtx",)
    for shape in ((1, 4), (8, 16), (2, 3)):
        given = feeds(*shape)
        logits = opened.run(given)
        assert logits.dtype == np.float32
        np.testing.assert_array_equal(logits, expected(given))
    assert set(tensorrt.streams) == {opened.device.stream}
    assert len(driver.memory) == 3  # grown, not heaped up


def test_runs_from_several_threads(open_engine: Any) -> None:
    opened = open_engine()
    wrong: list[int] = []

    def work(batch: int) -> None:
        given = feeds(batch, 5)
        for _ in range(20):
            if not np.array_equal(opened.run(given), expected(given)):
                wrong.append(batch)

    threads = [threading.Thread(target=work, args=(batch,)) for batch in (1, 3, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_feeds_that_do_not_fit(open_engine: Any) -> None:
    opened = open_engine()
    with pytest.raises(VerificationError, match=r"no input_ids of \[1, 17\]: not in the profile: \[1, 17\]"):
        opened.run(feeds(1, 17))
    with pytest.raises(InputError, match="'attention_mask' is not among the feeds input_ids"):
        opened.run({"input_ids": np.ones((1, 2), dtype=np.int64)})


def test_an_engine_of_another_version_or_gpu_is_not_loaded(engine: Path, driver: Any, tensorrt: Any) -> None:
    tensorrt.__version__ = "1.8.0"
    fingerprint = replace(read_fingerprint(engine), compute_capabilities=("12.0",))
    fingerprint_path(engine).write_text(fingerprint.to_json())
    with pytest.raises(VerificationError) as caught:
        TensorrtEngine(engine, device=CudaDevice(library=driver), library=tensorrt)
    assert "library version is 1.7.1, wanted is 1.8.0" in caught.value.message
    assert "for compute capability 12.0, wanted is 8.9" in caught.value.message
    assert "--compute-capability 8.9" in str(caught.value.hint)
    assert tensorrt.logger is None  # it was not even asked


def test_the_library_s_own_words(open_engine: Any, tensorrt: Any) -> None:
    tensorrt.loads = False
    with pytest.raises(VerificationError, match=r"cannot load .*: cudaError 35"):
        open_engine()


def test_a_library_that_is_missing_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match="needs tensorrt, which cannot be imported") as caught:
        TensorrtEngine(write_engine(tmp_path / "a.engine", library="tensorrt"))
    assert caught.value.exit_code == 4
    with pytest.raises(VerificationError, match="names the library 'os'"):
        TensorrtEngine(write_engine(tmp_path / "b.engine", library="os"))
    (tmp_path / "c.engine").write_bytes(b"")
    with pytest.raises(VerificationError, match=r"c\.engine\.json is missing"):
        TensorrtEngine(tmp_path / "c.engine")


def test_the_real_library_refuses_what_is_no_engine(engine: Path, driver: Any) -> None:
    library = pytest.importorskip("tensorrt_rtx")
    write_engine(engine, version=library.__version__)
    with pytest.raises(VerificationError, match=r"cannot load .*model\.engine: \S+"):
        TensorrtEngine(engine, device=CudaDevice(library=driver), library=library)


def test_a_bundle_with_an_engine_needs_a_gpu(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(providers, "DRIVER_LIBRARY", "libno-such-driver.so.1")
    (bundle / "model.onnx").unlink()
    write_engine(bundle / "model.engine", version=library.__version__)
    files = {path.name: file_entry(path) for path in bundle.iterdir() if path.name != "manifest.json"}
    manifest = replace(read_manifest(bundle), graph="model.engine", files=files)
    (bundle / "manifest.json").write_text(manifest.to_json())
    for work in (load, verify):
        with pytest.raises(DeviceError, match="no NVIDIA driver") as caught:
            work(bundle)
        assert caught.value.exit_code == 4


def test_a_bundle_with_an_engine_predicts(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, driver: Any, tensorrt: Any
) -> None:
    monkeypatch.setattr(cuda, "load_driver", lambda: driver)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", tensorrt)
    write_engine(bundle / "model.engine")
    shutil.move(bundle / "model.onnx", bundle.parent / "model.onnx")
    files = {path.name: file_entry(path) for path in bundle.iterdir() if path.name != "manifest.json"}
    inputs = (TensorSpec("input_ids"), TensorSpec("attention_mask"))
    manifest = replace(read_manifest(bundle), graph="model.engine", files=files, inputs=inputs)
    (bundle / "manifest.json").write_text(manifest.to_json())
    model = load(bundle)
    assert {answer.label for answer in model.predict(["cat", "a dog in paris"])} == {
        "person"
    }  # three times the sum
