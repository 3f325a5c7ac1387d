from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pocketformer.export.bundle import write_bundle
from pocketformer.runtime.errors import ExportError, InputError, PocketformerError
from pocketformer.runtime.manifest import SessionSettings, read_manifest
from pocketformer.runtime.model import load
from pocketformer.runtime.verify import verify

LABELS = ("animal", "place", "person")


def arguments(graph: Path, model_dir: Path, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "graph": graph,
        "tokenizer_json": model_dir / "tokenizer.json",
        "labels": LABELS,
        "max_length": 16,
        "pad_id": 0,
        "golden_texts": ["the old king ?", "what is a wolf"],
        "precision": "fp32",
        "target": "cpu",
        "session": SessionSettings(intra_op_threads=1),
        "provenance": {"model": "tiny"},
        "name": "tiny",
        "license_text": "Apache-2.0",
        "data_license_text": "MIT",
    }
    return {**values, **changes}


def test_a_bundle_predicts_and_verifies(tiny_graph: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    result = write_bundle(tmp_path / "b" / "cpu", **arguments(tiny_graph, tiny_model_dir))
    names = {path.name for path in result.output.iterdir()}
    assert names == {
        "model.onnx",
        "tokenizer.json",
        "golden.jsonl",
        "manifest.json",
        "README.md",
        "LICENSE.txt",
        "LICENSE.data.txt",
        "sbom.cdx.json",
    }
    assert verify(result.output).ok
    assert load(result.output).predict_one("a cat ?").label in LABELS
    manifest = read_manifest(result.output)
    assert [spec.name for spec in manifest.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert {spec.dtype for spec in manifest.inputs} == {"int64"}
    assert set(manifest.files) == names - {"manifest.json"}
    assert "LICENSE.data.txt" in (result.output / "README.md").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (result.output / "golden.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["the old king ?", "what is a wolf"]
    assert result.metrics["bytes"] == sum(path.stat().st_size for path in result.output.iterdir())
    assert not [path for path in (tmp_path / "b").iterdir() if path.name.startswith(".")]


def test_another_graph_under_the_same_manifest_does_not_verify(
    tiny_graph: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "b", **arguments(tiny_graph, tiny_model_dir)).output
    model = onnx.load(str(bundle / "model.onnx"))
    item = next(item for item in model.graph.initializer if "classifier.bias" in item.name)
    item.CopyFrom(numpy_helper.from_array(np.full(3, 0.5, np.float32), item.name))
    onnx.save(model, str(bundle / "model.onnx"))
    failed = [check.name for check in verify(bundle).checks if not check.ok]
    assert "files" in failed


def test_what_cannot_be_bundled_leaves_nothing_behind(
    tiny_graph: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    target = tmp_path / "b"
    with pytest.raises(ExportError, match="golden text"):
        write_bundle(target, **arguments(tiny_graph, tiny_model_dir, golden_texts=[]))
    with pytest.raises(ExportError, match="does not exist"):
        write_bundle(target, **arguments(tmp_path / "none.onnx", tiny_model_dir))
    with pytest.raises(PocketformerError):
        write_bundle(target, **arguments(tiny_graph, tiny_model_dir, labels=("only", "two")))
    assert list(tmp_path.iterdir()) == []
    target.mkdir()
    with pytest.raises(InputError, match="exists already"):
        write_bundle(target, **arguments(tiny_graph, tiny_model_dir))
