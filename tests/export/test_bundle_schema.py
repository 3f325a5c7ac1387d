"""The schema and the reader say the same, as far as a schema can say it."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.export.bundle_schema import SCHEMA_FILE, manifest_schema
from pocketformer.runtime.errors import PocketformerError
from pocketformer.runtime.golden import golden_from_jsonl
from pocketformer.runtime.manifest import (
    FileEntry,
    Manifest,
    Postprocessing,
    Preprocessing,
    TensorSpec,
)

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = manifest_schema()
VALID = jsonschema.Draft202012Validator(SCHEMA)
GOLDEN = jsonschema.Draft202012Validator({**SCHEMA["$defs"]["golden_sample"], "$defs": SCHEMA["$defs"]})

ENTRY = FileEntry(sha256="0" * 64, bytes=1)
DOCUMENT: dict[str, Any] = json.loads(
    Manifest(
        name="trec",
        target="cpu",
        precision="int8-dynamic",
        inputs=(TensorSpec("input_ids"), TensorSpec("attention_mask")),
        outputs=(TensorSpec("logits", "float32", ("batch", "labels")),),
        preprocessing=Preprocessing(max_length=64, pad_id=3),
        postprocessing=Postprocessing(labels=("ABBR", "DESC")),
        tolerance=0.1,
        files={"model.onnx": ENTRY, "tokenizer.json": ENTRY, "golden.jsonl": ENTRY, "a/b.txt": ENTRY},
        provenance={"seed": 1},
        runtime={"name": "onnxruntime"},
    ).to_json()
)
SAMPLE = {"text": "a", "input_ids": [1, 2], "logits": [0.5, 1], "label": "A", "score": 0.5}
# What the reader finds beyond any schema: how fields fit together, and what one number or text may hold.
BEYOND = re.compile(
    r"listed in `files`|neither empty nor a repetition, not|as its engine has it|at most \d+, not|is not JSON"
)


def test_it_is_a_schema_and_the_one_in_the_docs() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads((DOCS / SCHEMA_FILE).read_text(encoding="utf-8")) == SCHEMA


def test_a_written_bundle_is_valid(small_bundle: Path) -> None:
    VALID.validate(json.loads((small_bundle / "manifest.json").read_text(encoding="utf-8")))
    for line in (small_bundle / "golden.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        GOLDEN.validate(row)
        assert 0 < row["score"] <= 1


def reader(document: Any) -> str | None:
    """Why the reader does not take it; None when it does."""
    try:
        Manifest.from_json(json.dumps(document))
    except PocketformerError as error:
        return error.message
    return None


def agree(document: Any) -> None:
    reason = reader(document)
    if VALID.is_valid(document):
        assert reason is None or BEYOND.search(reason), reason
    else:
        assert reason is not None, next(VALID.iter_errors(document)).message


def places(node: Any) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, value in items for place in [(key,), *((key, *rest) for rest in places(value))]]


PLACES = places(DOCUMENT)
TEXTS = st.sampled_from(
    ["", ".", "..", "a/../b", "/a", "a/", "a//b", "a\\b", "c:x", "a\0", "a\n", "..\n", "manifest.json", "x.onnx",
     "manifest.json.sig", "model.onnx", "model.xml", "model.onnx\n", "text", "int64", "input_ids", "1.2", "1.", "all"]
) | st.text(max_size=4)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 1024, 1025, 2**20, 2**20 + 1, 2**31 - 1, 2**31, 2**31 + 1, 2**60, 0.5, -0.5]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(place=st.sampled_from(PLACES), value=VALUES)
@settings(max_examples=600)
def test_any_value_anywhere(place: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    node: Any = document
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    agree(document)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_anything_left_out(place: tuple[Any, ...]) -> None:
    document = copy.deepcopy(DOCUMENT)
    node: Any = document
    for key in place[:-1]:
        node = node[key]
    del node[place[-1]]
    agree(document)


@given(name=TEXTS)
@settings(max_examples=300)
def test_any_path(name: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    assert VALID.is_valid(document) == (reader(document) is None)


def test_documents_that_are_none() -> None:
    for document in ([], {}, "manifest", None, {"schema_version": 1}, {**DOCUMENT, "unknown": 1}):
        agree(document)
    assert reader({**DOCUMENT, "unknown": 1}) is None
    many = {f"f{index}": {"sha256": "0" * 64, "bytes": 1} for index in range(1000)}
    agree({**DOCUMENT, "files": {**DOCUMENT["files"], **many}})


@given(key=st.sampled_from([*SAMPLE, "other"]), value=VALUES)
@settings(max_examples=300)
def test_any_golden_sample(key: str, value: Any) -> None:
    row = {**SAMPLE, key: value}
    try:
        golden_from_jsonl(json.dumps(row))
        taken = True
    except PocketformerError:
        taken = False
    assert GOLDEN.is_valid(row) == taken
