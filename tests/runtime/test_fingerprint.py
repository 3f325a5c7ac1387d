"""Fingerprints are checked where no TensorRT is: nothing here needs the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pocketformer.runtime.errors import VerificationError
from pocketformer.runtime.fingerprint import (
    Fingerprint,
    check_fingerprint,
    fingerprint_path,
    read_fingerprint,
)
from pocketformer.runtime.manifest import sha256_file

PROFILE = {"batch": [1, 1, 8], "sequence": [1, 32, 128]}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path, graph = tmp_path / "model.engine", tmp_path / "model.onnx"
    path.write_bytes(b"machine code")
    graph.write_bytes(b"graph")
    fingerprint = Fingerprint(
        library="tensorrt_rtx",
        library_version="1.7.1",
        compute_capabilities=("8.6", "8.9"),
        graph_sha256=sha256_file(graph),
        engine_sha256=sha256_file(path),
        profile=PROFILE,
        precision="fp16",
    )
    fingerprint_path(path).write_text(fingerprint.to_json())
    return path


def test_a_fingerprint_survives_its_file(engine: Path) -> None:
    found = read_fingerprint(engine)
    assert found.status == "built"
    assert found.compute_capabilities == ("8.6", "8.9")
    assert json.loads(found.to_json()) == json.loads(fingerprint_path(engine).read_text())


def test_an_engine_that_fits_is_let_through(engine: Path) -> None:
    found = check_fingerprint(
        engine,
        library="tensorrt_rtx",
        library_version="1.7.1",
        compute_capability="8.9",
        graph=engine.with_name("model.onnx"),
        profile=PROFILE,
        precision="fp16",
    )
    assert found.library == "tensorrt_rtx"
    assert check_fingerprint(engine) == found


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"library": "tensorrt"}, "library is tensorrt_rtx, wanted is tensorrt"),
        ({"library_version": "1.8.0"}, "library version is 1.7.1, wanted is 1.8.0"),
        ({"compute_capability": "12.0"}, "compute capability 8.6, 8.9, wanted is 12.0"),
        ({"precision": "int8"}, "precision is fp16, wanted is int8"),
        ({"profile": {**PROFILE, "batch": [1, 2, 4]}}, "its profile is"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_command_that_mends_it(
    engine: Path, wanted: dict[str, Any], words: str
) -> None:
    with pytest.raises(VerificationError) as caught:
        check_fingerprint(engine, **wanted)
    assert caught.value.exit_code == 5
    assert words in caught.value.message
    assert "pocketformer export MODEL --format tensorrt --compute-capability" in str(caught.value.hint)


def test_the_command_asks_for_what_is_wanted(engine: Path) -> None:
    with pytest.raises(VerificationError, match=r"--compute-capability 12\.0 --precision int8 -o"):
        check_fingerprint(engine, compute_capability="12.0", precision="int8")
    with pytest.raises(VerificationError, match=r"--compute-capability 8\.6 --compute-capability 8\.9"):
        check_fingerprint(engine, library="tensorrt")


def test_damage_is_noticed(engine: Path) -> None:
    graph = engine.with_name("model.onnx")
    graph.write_bytes(b"another graph")
    with pytest.raises(VerificationError, match=r"another graph than .*model\.onnx"):
        check_fingerprint(engine, graph=graph)
    engine.write_bytes(b"machine c0de")
    with pytest.raises(VerificationError, match="not those that were built"):
        check_fingerprint(engine)
    engine.unlink()
    with pytest.raises(VerificationError, match="there is no engine"):
        check_fingerprint(engine)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 2}', '{"schema_version": 1}'])
def test_a_fingerprint_that_cannot_be_read_is_refused(engine: Path, content: str) -> None:
    fingerprint_path(engine).write_text(content)
    with pytest.raises(VerificationError, match="missing or damaged"):
        check_fingerprint(engine)
