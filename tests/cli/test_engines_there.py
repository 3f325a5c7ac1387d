"""Engines that are built on a device over real SSH: a server on the loopback, and the real TensorRT-RTX behind it.

It builds ahead of time for a compute capability that is named. There is no GPU: nothing here runs an engine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pocketformer.runtime.fingerprint import check_fingerprint
from pocketformer.runtime.manifest import Manifest, file_entry, read_manifest
from pocketformer.runtime.tensorrt.layers import read_layers, what_is_missing
from pocketformer.runtime.tensorrt.library import Library
from pocketformer.targets.remote import RemoteDevice

OPTIONS = ("--threads", "1")
BOARD = {
    "name": "board",
    "description": "A board with TensorRT",
    "runtime": "tensorrt",
    "compute_capability": "8.9",
}


@pytest.fixture(autouse=True)
def _ahead_of_time(library: Library) -> None:
    """Only TensorRT-RTX builds without a GPU."""
    if not library.builds_ahead_of_time:
        pytest.skip(f"{library.name} builds for the GPU of its machine")


@pytest.fixture(autouse=True)
def brief() -> Iterator[None]:
    """What takes long in a bench and is no part of these tests is left out."""
    from pocketformer.pipeline import bench, measurements

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "drive_loadgen", lambda *_: (None, "LoadGen: left out"))
        patch.setattr(measurements, "_add_cold_starts", lambda *_: None)
        yield


def write_profile(folder: Path, **more: Any) -> Path:
    path = folder / "board.yaml"
    path.write_text(yaml.safe_dump({**BOARD, "precisions": ["fp32", "fp16"], **more}))
    return path


def reached(loopback: Any) -> tuple[object, ...]:
    server = loopback.server
    keys = ("--identity", server.key, "--known-hosts", server.known_hosts)
    return ("--python", loopback.python, "--folder", loopback.folder, *keys)


def test_export_builds_on_the_device(
    cli: Any, loopback: Any, library: Library, tiny_model_dir: Path, tmp_path: Path
) -> None:
    profile = write_profile(tmp_path, reach=loopback.server.address)
    arguments = ("export", tiny_model_dir, "--format", "tensorrt", "--target", profile, *OPTIONS)
    outcome = cli(*arguments, *reached(loopback), "--max-length", "16", "--json", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    engine = tmp_path / "out" / outcome.json["artefacts"]["engine"]
    found = check_fingerprint(
        engine,
        library=library.name,
        library_version=library.version,
        compute_capability="8.9",
        graph=engine.with_name("model.onnx"),
        precision="fp16",
    )
    assert found.profile == {"batch": [1, 1, 8], "sequence": [1, 8, 16]}
    assert what_is_missing(read_layers(engine), "fp16") is None
    (stage,) = (stage for stage in outcome.json["stages"] if stage["name"] == "tensorrt")
    assert f"built on {loopback.server.address} by {library.name} {library.version}" in stage["notes"]
    assert stage["metrics"]["same_label"] == 1.0
    assert "latency" not in json.dumps(stage)
    assert cli("verify", tmp_path / "out").code == 0
    assert (
        cli(*arguments, *reached(loopback), "--max-length", "16", "-o", tmp_path / "out").err.count("reused")
        == 2
    )


def test_bench_builds_on_the_device_beside_others(
    cli: Any, loopback: Any, library: Library, run_dir: Path, tmp_path: Path
) -> None:
    """A device with TensorRT, one that has none, and one of another GPU than the library knows."""
    absent = "raise ModuleNotFoundError('No module named ' + repr(__name__), name=__name__)\n"
    (tmp_path / "modules").mkdir()
    for name in ("tensorrt", "tensorrt_rtx"):
        (tmp_path / "modules" / f"{name}.py").write_text(absent)
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}/modules" exec "{sys.executable}" "$@"\n')
    bare.chmod(0o755)
    server = loopback.server
    keys = {
        "identity": str(server.key),
        "known_hosts": str(server.known_hosts),
        "folder": str(loopback.folder),
    }
    there = {"address": server.address, "python": sys.executable, **keys}
    profile = write_profile(tmp_path)
    (tmp_path / "orin.yaml").write_text(profile.read_text().replace("8.9", "8.7"))
    fleet = tmp_path / "fleet.yaml"
    devices = [
        {"name": "ada", "target": str(profile), **there},
        {"name": "bare", "target": str(profile), **there, "python": str(bare)},
        {"name": "orin", "target": str(tmp_path / "orin.yaml"), **there},
    ]
    fleet.write_text(yaml.safe_dump({"devices": devices}))
    outcome = cli("bench", run_dir, "--fleet", fleet, *OPTIONS, "--json", "-o", tmp_path / "out")
    assert outcome.code == 4, outcome.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = {device["name"]: device for device in report["devices"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "ada": "built", "bare": "failed", "orin": "failed"
    }  # fmt: skip
    ada = rows["ada"]
    assert ada["engine"]["library"] == f"{library.name} {library.version}"
    assert (ada["engine"]["precision"], ada["engine"]["compute_capabilities"]) == ("fp16", ["8.9"])
    assert ada["engine"]["layers"]["fp16"] > 0
    assert (ada["result"], ada["energy"], ada["speedup"]) == (None, None, {})
    assert ada["versions"][library.name] == library.version
    assert any(note.startswith("built only: there is no NVIDIA driver") for note in ada["notes"])
    engine = tmp_path / "out/stages/01-bench/engines/ada/model.engine"
    assert check_fingerprint(engine, graph=engine.with_name("model.onnx"), compute_capability="8.9")
    assert engine.stat().st_size / 1e6 == ada["engine"]["file_mb"]
    assert "neither tensorrt nor tensorrt_rtx is installed" in rows["bare"]["error"]
    assert "pip install tensorrt-rtx-cu12" in rows["bare"]["hint"]
    assert "cannot build for compute capability '8.7'" in rows["orin"]["error"]
    assert "JetPack's TensorRT" in rows["orin"]["hint"]
    assert "never run" in (tmp_path / "out" / "report.html").read_text()


def test_an_engine_is_measured_where_its_gpu_is(
    cli: Any, loopback: Any, library: Library, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the GPU: the device says that it has one, and its processor runs the run's bundle in its place.

    What is sent is looked at, and what becomes of the answers; the figures are those of onnxruntime.
    """
    single, push = RemoteDevice.single, RemoteDevice.push
    sent: list[Manifest] = []

    def single_with_gpu(self: RemoteDevice, command: str, *arguments: str, **more: Any) -> dict[str, Any]:
        answer = single(self, command, *arguments, **more)
        return answer | {"gpu": "8.9", "no_gpu": None} if command == "builder" else answer

    def push_another(self: RemoteDevice, source: Path, name: str = "bundle") -> None:
        sent.append(read_manifest(source))
        for file, entry in sent[-1].files.items():
            assert file_entry(source / file) == entry
        push(self, run_dir / "bundles" / "cpu", name)

    monkeypatch.setattr(RemoteDevice, "single", single_with_gpu)
    monkeypatch.setattr(RemoteDevice, "push", push_another)
    profile = write_profile(tmp_path, reach=loopback.server.address)
    arguments = ("bench", run_dir, "--target", profile, *reached(loopback), "--rounds", "5", *OPTIONS)
    outcome = cli(*arguments, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    (manifest,) = sent
    assert (manifest.graph, manifest.precision, manifest.target) == ("model.engine", "fp16", "board")
    assert (manifest.runtime["name"], manifest.runtime["version"]) == (library.name, library.version)
    assert {"model.engine", "model.engine.json", "tokenizer.json", "golden.jsonl"} <= set(manifest.files)
    assert "model.onnx" not in manifest.files
    (row,) = json.loads((tmp_path / "out" / "report.json").read_text())["devices"]
    assert row["status"] == "measured"
    assert row["engine"]["library"] == f"{library.name} {library.version}"
    assert row["result"]["latency_ms"]["real"]["p50"] > 0
    engine, tokenizer = manifest.files["model.engine"].bytes, manifest.files["tokenizer.json"].bytes
    assert row["result"]["file_mb"] == (engine + tokenizer) / 1e6
    assert not any("never run" in note or "built only" in note for note in row["notes"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{library.name} {library.version}" in page
    assert "never run" not in page


def test_a_board_of_another_processor_is_refused(
    cli: Any, loopback: Any, run_dir: Path, tmp_path: Path
) -> None:
    """A Jetson's profile and an address that leads elsewhere: nothing is built."""
    from pocketformer.targets.probe import machine_architecture

    if machine_architecture() == "aarch64":
        pytest.skip("this machine's processor is that of a Jetson")
    server = loopback.server
    device = {"target": "jetson-orin-nano", "address": server.address, "python": sys.executable}
    device |= {
        "identity": str(server.key),
        "known_hosts": str(server.known_hosts),
        "folder": str(loopback.folder),
    }
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"devices": [{"name": "orin", **device}]}))
    outcome = cli("bench", run_dir, "--fleet", tmp_path / "fleet.yaml", *OPTIONS, "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "its profile jetson-orin-nano aarch64" in outcome.err
    assert not list((tmp_path / "out").glob("stages/*/engines/*/model.engine"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--target", "tensorrt-rtx-sm89", "--python", "python3"), 2, "need a --target with an address"),
        (("--python", "python3"), 2, "need a --target with an address"),
        (("--target", "ssh://me@a", "--identity", "/no/such/key"), 2, "no key file at"),
        (
            ("--target", "ssh://me@a", "--compute-capability", "8.6", "--compute-capability", "8.9"),
            2,
            "a device builds for one GPU, not for 2 kinds",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    cli: Any, tiny_model_dir: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    outcome = cli("export", tiny_model_dir, "--format", "tensorrt", *arguments, "-o", tmp_path / "out")
    assert outcome.code == code
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_device_that_shows_no_gpu_has_to_be_told_which(
    cli: Any, loopback: Any, tiny_model_dir: Path, tmp_path: Path
) -> None:
    address = ("--target", loopback.server.address, *reached(loopback))
    outcome = cli(
        "export", tiny_model_dir, "--format", "tensorrt", *address, *OPTIONS, "-o", tmp_path / "out"
    )
    assert outcome.code == 4
    assert "which GPU" in outcome.err
    assert "--compute-capability" in outcome.err
