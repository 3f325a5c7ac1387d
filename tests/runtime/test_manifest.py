from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.runtime.errors import InputError, PocketformerError, VerificationError
from pocketformer.runtime.manifest import (
    SCHEMA_VERSION,
    EngineNeed,
    FileEntry,
    Manifest,
    Postprocessing,
    Preprocessing,
    SessionSettings,
    TensorSpec,
    file_entry,
    read_manifest,
    sha256_file,
)

ENTRY = FileEntry(sha256="0" * 64, bytes=1)
MANIFEST = Manifest(
    name="trec-ünïcode",
    target="cpu",
    precision="int8-dynamic",
    inputs=(TensorSpec("input_ids"), TensorSpec("attention_mask")),
    outputs=(TensorSpec("logits", "float32", ("batch", "labels")),),
    preprocessing=Preprocessing(max_length=64, pad_id=3),
    postprocessing=Postprocessing(labels=("ABBR", "DESC", "Ü")),
    tolerance=0.1,
    files={"model.onnx": ENTRY, "tokenizer.json": ENTRY, "golden.jsonl": ENTRY, "glue/a.txt": ENTRY},
    session=SessionSettings(
        intra_op_threads=2, spinning=False, graph_optimization="extended", memory_arena=False
    ),
    provenance={"seed": 1, "steps": ["distill", {"layers": 3}], "drop": 0.004},
    runtime={"name": "onnxruntime", "version": "1.31.1"},
)
DOCUMENT: dict[str, Any] = json.loads(MANIFEST.to_json())


def changed(path: str, value: object) -> str:
    """The document with the value at the dotted path replaced, or removed when it is `...`."""
    document: Any = copy.deepcopy(DOCUMENT)
    *parents, last = path.split("/")
    node = document
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    key: Any = int(last) if isinstance(node, list) else last
    if value is ...:
        del node[key]
    else:
        node[key] = value
    return json.dumps(document)


def test_round_trip() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert MANIFEST.to_json().endswith("\n")
    assert DOCUMENT["schema_version"] == SCHEMA_VERSION == 1


def test_a_manifest_of_before_engines_were_named_is_for_onnxruntime() -> None:
    assert Manifest.from_json(changed("engine", ...)) == MANIFEST
    assert Manifest.from_json(changed("engine/minimum_version", ...)).engine == EngineNeed("onnxruntime")
    known = Manifest.from_json(changed("engine", {"name": "openvino", "minimum_version": "2024.5"}))
    assert known.engine == EngineNeed("openvino", "2024.5")


def test_unknown_keys_are_passed_over() -> None:
    assert Manifest.from_json(changed("colour", "red")) == MANIFEST
    assert Manifest.from_json(changed("session/turbo", True)) == MANIFEST


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("name", ..., "name is missing"),
        ("name", "", "name must be text that is not empty"),
        ("task", "translation", "task must be one of text-classification"),
        ("schema_version", "1", "schema_version must be a whole number"),
        ("schema_version", True, "schema_version must be a whole number"),
        ("schema_version", 0, "schema_version must be a whole number"),
        ("graph", "other.onnx", "graph must be a file listed"),
        ("graph", "../model.onnx", "graph must be a path inside the bundle"),
        ("golden_file", "/etc/passwd", "golden_file must be a path inside"),
        ("inputs", [], "inputs must be a list that is not empty"),
        ("inputs", {}, "inputs must be a list"),
        ("inputs/1/name", "pixels", r"inputs\[1\].name must be one of input_ids"),
        ("inputs/0/dtype", "int32", r"inputs\[0\].dtype must be 'int64'"),
        ("inputs/0/axes", ["batch", 3], r"inputs\[0\].axes\[1\]"),
        ("outputs/0", "logits", r"outputs\[0\] must be an object"),
        ("preprocessing", ..., "preprocessing is missing"),
        ("preprocessing/kind", "image", "preprocessing.kind must be one of text"),
        ("preprocessing/max_length", 0, "preprocessing.max_length must be a whole number of at least 1"),
        ("preprocessing/max_length", 10**12, "preprocessing.max_length"),
        ("preprocessing/max_length", 64.0, "preprocessing.max_length"),
        ("preprocessing/pad_id", -1, "preprocessing.pad_id"),
        ("preprocessing/tokenizer_file", "manifest.json", "preprocessing.tokenizer_file"),
        ("postprocessing/labels", ["a", "a"], r"postprocessing.labels\[1\]"),
        ("postprocessing/labels", [], "postprocessing.labels"),
        ("session/spinning", 1, "session.spinning must be true or false"),
        ("engine/name", "tvm", "engine.name must be one of onnxruntime, openvino"),
        ("engine/minimum_version", "newest", "engine.minimum_version must be numbers with dots"),
        ("session/graph_optimization", "fast", "session.graph_optimization must be one of all"),
        ("session/intra_op_threads", -2, "session.intra_op_threads"),
        ("tolerance", -0.1, "tolerance must be a finite number"),
        ("tolerance", None, "tolerance must be a number"),
        ("tolerance", True, "tolerance"),
        ("runtime/version", 3, "runtime.version must be text"),
        ("files", [], "files must be an object"),
        ("files/model.onnx/sha256", "ABC", r"files\['model.onnx'\].sha256"),
        ("files/model.onnx/bytes", -1, r"files\['model.onnx'\].bytes"),
        ("files/a\\b", {"sha256": "0" * 64, "bytes": 1}, "must be a path inside"),
        ("files/C:x", {"sha256": "0" * 64, "bytes": 1}, "must be a path inside"),
    ],
)
def test_the_wrong_field_is_named(path: str, value: object, named: str) -> None:
    with pytest.raises(VerificationError, match=named) as caught:
        Manifest.from_json(changed(path, value))
    assert caught.value.hint


def test_newer_schema_is_refused_clearly() -> None:
    with pytest.raises(InputError, match=r"schema_version 2; this version reads up to 1") as caught:
        Manifest.from_json(json.dumps({"schema_version": 2}))
    assert "upgrade" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "[" * 100_000, '{"tolerance": NaN}'])
def test_what_is_no_manifest(text: str) -> None:
    with pytest.raises(VerificationError):
        Manifest.from_json(text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def places(node: Any, prefix: str = "") -> list[str]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []
    found = []
    for key, value in items:
        found += [f"{prefix}{key}", *places(value, f"{prefix}{key}/")]
    return found


ALL_PLACES = [p for p in places(DOCUMENT) if not p.startswith("files/")]


@given(place=st.sampled_from(ALL_PLACES), value=JSON_VALUES)
@settings(max_examples=300)
def test_any_value_anywhere_gives_a_manifest_or_a_named_error(place: str, value: object) -> None:
    try:
        manifest = Manifest.from_json(changed(place, value))
    except PocketformerError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(text=st.text(max_size=200))
def test_any_text_gives_a_named_error(text: str) -> None:
    with pytest.raises(PocketformerError):
        Manifest.from_json(text)


def test_what_cannot_be_written_is_refused() -> None:
    for provenance in ({"a": float("nan")}, {"a": object()}, {"a": "\ud800"}):
        with pytest.raises(VerificationError, match="cannot be written as JSON"):
            Manifest(**{**vars(MANIFEST), "provenance": provenance}).to_json()
    with pytest.raises(VerificationError, match="graph must be a file listed"):
        Manifest(**{**vars(MANIFEST), "files": {}}).to_json()


def test_read_manifest_says_where(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(VerificationError, match=str(tmp_path)):
        read_manifest(tmp_path)


def test_sha256_and_entry(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than one block
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert file_entry(tmp_path / "file") == FileEntry(hashlib.sha256(content).hexdigest(), len(content))
