"""A GPU that is not there: every verb that is asked for one ends with exit code 4 and names what is missing."""

from __future__ import annotations

import json
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
    assert "Error: target 'gpu' cannot be measured on this machine: " in outcome.err
    assert "there is no NVIDIA driver (libno-such-driver" in outcome.err
    assert not (tmp_path / "out").exists()


def test_bench_on_the_gpu_alone(cli: Any, run_dir: Path, tmp_path: Path) -> None:
    outcome = cli("bench", run_dir, "--target", "gpu", "-o", tmp_path / "out", "--json")
    assert (outcome.code, outcome.out) == (4, "")
    assert "there is no NVIDIA driver (libno-such-driver" in outcome.err
    assert "docs/gpu.md" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_gpu_in_a_fleet_keeps_its_row_and_the_others_go_on(
    cli: Any, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketformer.pipeline import bench, measurements

    monkeypatch.setattr(bench, "drive_loadgen", lambda *_: (None, "LoadGen: left out"))
    monkeypatch.setattr(measurements, "_add_cold_starts", lambda *_: None)
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("devices: [{target: gpu}, {target: cpu}]")
    options = ("--threads", "1", "--rounds", "5")
    outcome = cli("bench", run_dir, "--fleet", fleet, *options, "-o", tmp_path / "out")
    assert outcome.code == 4, outcome.err
    assert outcome.err.index("gpu cannot be measured: ") < outcome.err.index("timing real"), (
        "told before, too"
    )
    assert "Error: gpu: target 'gpu' cannot be measured on this machine: " in outcome.err
    gpu, cpu = json.loads((tmp_path / "out" / "report.json").read_text())["devices"]
    assert (gpu["name"], gpu["status"], gpu["result"], gpu["gpu"]) == ("gpu", "failed", None, None)
    assert "there is no NVIDIA driver" in gpu["error"]
    assert "onnxruntime-gpu" in gpu["hint"]
    assert cpu["status"] == "measured"
    assert cpu["result"]["latency_ms"]["real"]["p50"] > 0
    for name in ("report.html", "report.md"):
        assert "there is no NVIDIA driver" in (tmp_path / "out" / name).read_text()


@pytest.mark.gpu
def test_a_real_gpu_gets_a_row(
    cli: Any, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the driver that is there
    outcome = cli("bench", run_dir, "--target", "gpu", "--rounds", "5", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads((tmp_path / "out" / "report.json").read_text())["devices"]
    assert row["status"] == "measured"
    assert row["result"]["metric"] is not None
    assert row["result"]["latency_ms"]["real"]["p50"] > 0
    assert row["gpu"]["nodes"][CUDA_PROVIDER] > 0
    assert min(row["gpu"]["device_latency_samples_ms"]["real"]) > 0
    assert row["gpu"]["watch"]["samples"] > 0
    assert row["versions"]["NVIDIA driver"]


def test_probe_tells_of_gpus_too(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    outcome = cli("targets", "probe", "--json")
    assert outcome.code == 0
    assert outcome.json["threads"] >= 1
    assert outcome.json["gpus"] == []
    assert outcome.json["no_gpu"] == "nvidia-ml-py is not installed, so no GPU can be looked for"
    text = cli("targets", "probe").out
    assert "gpus: []\nno_gpu: nvidia-ml-py is not installed, so no GPU can be looked for\n" in text


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
