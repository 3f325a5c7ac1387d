"""An engine is inspected by what stands beside it; the engines here are no machine code, and no TensorRT is needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pocketformer.pipeline.inspect import inspect
from pocketformer.runtime.errors import VerificationError
from pocketformer.runtime.fingerprint import Fingerprint, fingerprint_path
from pocketformer.runtime.manifest import sha256_file
from pocketformer.runtime.tensorrt.layers import Layer, layers_path


@pytest.fixture(autouse=True)
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    path.write_bytes(b"stands for machine code")
    (tmp_path / "model.onnx").write_bytes(b"graph")
    known = Fingerprint(
        library="tensorrt_rtx",
        library_version="1.7.1",
        compute_capabilities=("8.6", "8.9"),
        graph_sha256=sha256_file(tmp_path / "model.onnx"),
        engine_sha256=sha256_file(path),
        profile={"batch": [1, 1, 8], "sequence": [1, 16, 64]},
        precision="int8-fp16",
    )
    fingerprint_path(path).write_text(known.to_json())
    layers = [
        Layer("a", "gemm", "int8", ("Int8",), ("Half",), "t"),
        Layer("b", "gemm", "int8", ("Int8",), ("Half",), "t"),
        Layer("c", "kgen", "fp16", ("Half",), ("Half",), "t"),
        Layer("d", "kgen", "none", (), (), "t"),
    ]
    layers_path(path).write_text(json.dumps({"layers": [layer.to_dict() for layer in layers]}))
    return path


def test_an_engine_and_the_directory_that_holds_it(engine: Path) -> None:
    found = inspect(engine)
    facts: dict[str, Any] = found.to_dict()
    assert json.loads(json.dumps(facts)) == json.loads(json.dumps(inspect(engine.parent).to_dict()))
    assert (facts["library"], facts["precision"], facts["bytes"]) == ("tensorrt_rtx", "int8-fp16", 23)
    assert facts["layers"] == {
        "count": 4,
        "precisions": {"fp16": 1, "int8": 2},
        "types": {"gemm": 2, "kgen": 2},
    }
    assert facts["module_installed"] is None
    text = "\n".join(found.lines())
    for part in (
        "TensorRT engine, int8-fp16, 0.0 MB, built, never run",
        "Built by tensorrt_rtx 1.7.1 for compute capability 8.6, 8.9, for any driver",
        "batch 1 to 8, usually 1; sequence 1 to 64, usually 16",
        "4 layers: fp16 1, int8 2",
        "tensorrt_rtx is not installed here (pip install 'pocketformer[tensorrt-rtx]')",
        "ok: bytes: as they were built",
        "not seen: library: ",
    ):
        assert part in text, part


def test_what_is_not_there_is_said(engine: Path) -> None:
    layers_path(engine).unlink()
    found = inspect(engine)
    assert found.to_dict()["layers"] is None
    assert any("there is no model.engine.layers.json beside it" in line for line in found.lines())
    engine.write_bytes(b"other bytes")
    found = inspect(engine)
    assert found.to_dict()["fits"]["ok"] is False
    assert any(line.startswith("FAILED: bytes: ") for line in found.lines())


def test_damage_beside_an_engine_is_an_error(engine: Path) -> None:
    layers_path(engine).write_text("{}")
    with pytest.raises(VerificationError, match=r"layers\.json is missing or damaged") as caught:
        inspect(engine)
    assert caught.value.exit_code == 5
    fingerprint_path(engine).unlink()
    with pytest.raises(VerificationError, match=r"model\.engine\.json is missing"):
        inspect(engine)
