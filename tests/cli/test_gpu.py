"""A GPU that is not there: every verb that is asked for one ends with exit code 4 and names what is missing."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketformer.runtime import providers
from pocketformer.runtime.manifest import read_manifest
from pocketformer.runtime.providers import CUDA_PROVIDER


@pytest.fixture(autouse=True)
def _no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is one."""
    monkeypatch.setattr(providers, "DRIVER_LIBRARY", "libno-such-driver.so.1")


@pytest.fixture
def gpu_bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle whose manifest asks for CUDA."""
    bundle = Path(shutil.copytree(bundle_dir, tmp_path / "gpu"))
    manifest = read_manifest(bundle)
    asking = replace(manifest, session=replace(manifest.session, providers=(CUDA_PROVIDER,)))
    (bundle / "manifest.json").write_text(asking.to_json(), encoding="utf-8")
    return bundle


@pytest.mark.parametrize("verb", ["predict", "verify"])
def test_a_bundle_for_cuda(cli: Any, gpu_bundle: Path, verb: str) -> None:
    outcome = cli(verb, gpu_bundle, *(["cat"] if verb == "predict" else []))
    assert (outcome.code, outcome.out) == (4, "")
    assert f"Error: {CUDA_PROVIDER} cannot be used here: " in outcome.err
    assert "there is no NVIDIA driver (libno-such-driver.so.1" in outcome.err
    assert "onnxruntime-gpu" in outcome.err


def test_predict_on_the_providers_that_are_named(cli: Any, bundle_dir: Path, gpu_bundle: Path) -> None:
    answer = cli("predict", bundle_dir, "cat", "--json").json
    assert cli("predict", gpu_bundle, "cat", "--provider", "cpu", "--json").json == answer
    refused = cli("predict", bundle_dir, "cat", "--provider", "tensorrt", "--provider", "cpu")
    assert (refused.code, refused.out) == (4, "")
    assert "TensorrtExecutionProvider cannot be used here" in refused.err
    unknown = cli("predict", bundle_dir, "cat", "--provider", "gpu")
    assert unknown.code == 2
    assert "cpu, cuda, tensorrt" in unknown.err


def test_a_run_for_a_gpu(
    cli: Any, tiny_model_dir: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    outcome = cli(
        "compress", tiny_model_dir, "--train", tiny_files[0], "--target", "gpu", "-o", tmp_path / "out"
    )
    assert outcome.code == 4
    assert (
        "target 'gpu' cannot be measured: its engine is tensorrt, and there is no NVIDIA driver"
        in outcome.err
    )
    assert not (tmp_path / "out").exists()


def test_probe_without_the_bindings(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    outcome = cli("targets", "probe", "gpu")
    assert outcome.code == 4
    assert "pip install 'pocketformer[gpu]'" in outcome.err


def test_doctor_tells_what_a_gpu_lacks(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = {row["package"]: row for row in cli("doctor", "--json").json}
    assert "libno-such-driver.so.1" in found["NVIDIA driver"]["reason"]
    assert found["NVIDIA GPU"]["version"] is None
    assert "predict" in found[CUDA_PROVIDER]["purpose"]
    assert "TensorrtExecutionProvider" in found
    text = cli("doctor").out
    assert "nvidia-ml-py is not installed" in text
