"""Whether an engine fits, on a machine with and without TensorRT and a GPU; nothing here needs either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pocketformer.runtime import verify_engine as module
from pocketformer.runtime.errors import DeviceError, InputError
from pocketformer.runtime.fingerprint import Fingerprint, fingerprint_path
from pocketformer.runtime.manifest import sha256_file
from pocketformer.runtime.verify_engine import EngineReport, find_engine, verify_engine


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path, graph = tmp_path / "model.engine", tmp_path / "model.onnx"
    path.write_bytes(b"machine code")
    graph.write_bytes(b"graph")
    write_fingerprint(path, graph)
    return path


def write_fingerprint(engine: Path, graph: Path, driver: str | None = None) -> None:
    fingerprint = Fingerprint(
        library="tensorrt_rtx",
        library_version="1.7.1",
        compute_capabilities=("8.6", "8.9"),
        graph_sha256=sha256_file(graph),
        engine_sha256=sha256_file(engine),
        profile={},
        precision="int8",
        driver=driver,
    )
    fingerprint_path(engine).write_text(fingerprint.to_json())


def check(
    engine: Path, *, versions: Mapping[str, str] | None = None, gpu: str | None = "8.9"
) -> EngineReport:
    installed = {"tensorrt_rtx": "1.7.1"} if versions is None else versions

    def capability() -> str:
        if gpu is None:
            raise DeviceError("there is no NVIDIA driver")
        return gpu

    return verify_engine(engine, version_of=installed.get, capability=capability)


def outcome(report: EngineReport) -> dict[str, bool]:
    return {item.name: item.ok for item in report.checks}


def test_an_engine_that_fits(engine: Path) -> None:
    report = check(engine)
    assert report.ok
    assert outcome(report) == dict.fromkeys(("fingerprint", "bytes", "graph", "library", "gpu"), True)
    assert (report.unchecked, report.hint) == ((), None)


def test_what_cannot_be_seen_is_said_and_refuses_nothing(engine: Path) -> None:
    engine.with_name("model.onnx").unlink()
    report = check(engine, versions={}, gpu=None)
    assert report.ok
    assert outcome(report) == {"fingerprint": True, "bytes": True}
    assert [item.name for item in report.unchecked] == ["graph", "library", "gpu"]
    assert "no TensorRT is installed" in report.unchecked[1].reason
    assert "no NVIDIA driver; the engine is for compute capability 8.6, 8.9" in report.unchecked[2].reason
    assert report.to_dict()["unchecked"][0] == {
        "name": "graph",
        "reason": "there is no model.onnx beside the engine",
    }


@pytest.mark.parametrize(
    ("versions", "gpu", "failed", "words"),
    [
        ({"tensorrt_rtx": "1.8.0"}, "8.9", "library", "its library version is 1.7.1, wanted is 1.8.0"),
        ({"tensorrt": "10.3.0"}, "8.9", "library", "its library is tensorrt_rtx, wanted is tensorrt"),
        (None, "12.0", "gpu", "for compute capability 8.6, 8.9, wanted is 12.0"),
    ],
)
def test_another_library_or_gpu_is_refused(
    engine: Path, versions: dict[str, str] | None, gpu: str, failed: str, words: str
) -> None:
    report = check(engine, versions=versions, gpu=gpu)
    assert [name for name, ok in outcome(report).items() if not ok] == [failed]
    (detail,) = (item.detail for item in report.checks if not item.ok)
    assert words in detail
    assert f"--compute-capability {gpu} --precision int8" in str(report.hint)


def test_damage_is_told_apart_from_another_graph(engine: Path) -> None:
    engine.with_name("model.onnx").write_bytes(b"another")
    report = check(engine)
    assert [name for name, ok in outcome(report).items() if not ok] == ["graph"]
    engine.write_bytes(b"damaged")
    report = check(engine)
    assert outcome(report) == {"fingerprint": True, "bytes": False}
    fingerprint_path(engine).write_text("{}")
    report = check(engine)
    assert outcome(report) == {"fingerprint": False}
    assert report.hint


def test_an_older_driver_is_refused_and_a_newer_one_taken(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fingerprint(engine, engine.with_name("model.onnx"), driver="12.4")
    found: dict[str, Any] = {}
    for here in ("12.10", "12.4", "11.8", None):
        monkeypatch.setattr(module, "driver_version", lambda here=here: here)
        report = check(engine)
        found[str(here)] = outcome(report).get("driver", [item.name for item in report.unchecked])
    assert found == {"12.10": True, "12.4": True, "11.8": False, "None": ["driver"]}


def test_an_engine_is_found_by_itself_or_in_its_directory(engine: Path) -> None:
    assert find_engine(engine) == engine
    assert find_engine(engine.parent) == engine
    assert find_engine(engine.parent / "nothing") is None
    engine.with_name("second.engine").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds 2 engines: model\.engine, second\.engine"):
        find_engine(engine.parent)
