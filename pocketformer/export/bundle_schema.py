"""The JSON Schema (2020-12) of a bundle's manifest and of a line of its golden samples: docs/bundle.schema.json.

The reader in ``runtime.manifest`` is the truth; this says the same in a form that other languages and editors take, out
of the reader's own limits and lists of names. A test holds one against the other. A schema cannot say that a file named
is listed in ``files``, nor that no key stands there twice: the reader does.
"""

from __future__ import annotations

import re
from typing import Any

from pocketformer.runtime import limits, manifest
from pocketformer.runtime.golden import LARGEST_ID
from pocketformer.runtime.manifest_fields import MANIFEST_FILE, SIGNATURE_FILE

SCHEMA_FILE = "bundle.schema.json"
_Schema = dict[str, Any]

_TEXT: _Schema = {"type": "string", "minLength": 1}
_NAMES: _Schema = {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True}
# The end of a text, as every dialect has it; `$` also stands before a last line feed in some.
_END = r"(?![\s\S])"
# No part is empty, a dot or two; neither is it the manifest or its signature.
_RESERVED = "|".join(map(re.escape, (MANIFEST_FILE, SIGNATURE_FILE)))
_PATH_PATTERN = rf"^(?!(?:{_RESERVED}){_END})(?!(?:[\s\S]*/)?\.{{0,2}}(?:/|{_END}))[^\\:\u0000]+{_END}"


def _object(required: _Schema, optional: _Schema | None = None, **more: Any) -> _Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _integer(least: int, most: int | None = None) -> _Schema:
    return {"type": "integer", "minimum": least, **({} if most is None else {"maximum": most})}


def _about(schema: _Schema, description: str) -> _Schema:
    return {**schema, "description": description}


def _tensor(**fixed: Any) -> _Schema:
    return _object({"name": _TEXT, "dtype": _TEXT, "axes": {"$ref": "#/$defs/names"}, **fixed})


def manifest_schema() -> _Schema:
    """JSON Schema of ``manifest.json``; a line of ``golden.jsonl`` is its ``$defs/golden_sample``."""
    path = {"$ref": "#/$defs/path"}
    suffixes = "|".join(suffix.removeprefix(".") for suffix in manifest.GRAPH_SUFFIXES)
    required = {
        "schema_version": _about({"const": manifest.SCHEMA_VERSION}, "A reader refuses a greater number."),
        "name": _TEXT,
        "task": {"const": "text-classification"},
        "target": _TEXT,
        "precision": _TEXT,
        "graph": {"allOf": [path, {"pattern": rf"\.(?:{suffixes}){_END}"}]},
        "inputs": {
            "description": "int32 for LiteRT alone, which takes no int64.",
            "type": "array",
            "items": _tensor(name={"enum": list(manifest.TEXT_INPUTS)}, dtype={"enum": ["int64", "int32"]}),
            "minItems": 1,
        },
        "outputs": _about(
            {"type": "array", "items": _tensor(), "minItems": 1},
            "The first one holds the logits [batch, labels].",
        ),
        "preprocessing": _object(
            {
                "kind": {"enum": list(manifest.PREPROCESSING_KINDS)},
                "tokenizer_file": path,
                "max_length": _integer(1, manifest.LARGEST_LENGTH),
                "pad_id": _integer(0, LARGEST_ID),
            }
        ),
        "postprocessing": _object(
            {"kind": {"enum": list(manifest.POSTPROCESSING_KINDS)}, "labels": {"$ref": "#/$defs/names"}}
        ),
        "session": _object(
            {
                "intra_op_threads": _integer(0, manifest.MOST_THREADS),
                "spinning": {"type": "boolean"},
                "graph_optimization": {"enum": list(manifest.GRAPH_OPTIMIZATIONS)},
                "memory_arena": {"type": "boolean"},
            },
            {"providers": {"$ref": "#/$defs/names"}},
        ),
        "golden_file": path,
        "tolerance": {"type": "number", "minimum": 0},
        "provenance": _about({"type": "object"}, "Free in form: for people and reports."),
        "runtime": _object({}, additionalProperties=_TEXT),
        "files": {
            "type": "object",
            "propertyNames": path,
            "additionalProperties": _object(
                {
                    "sha256": {"type": "string", "pattern": f"^[0-9a-f]{{64}}{_END}"},
                    "bytes": _integer(0, limits.LARGEST_FILE),
                }
            ),
            "maxProperties": limits.MOST_FILES,
        },
    }
    engine = _object(
        {"name": {"enum": list(manifest.ENGINES)}},
        {"minimum_version": {"type": ["string", "null"], "pattern": rf"^[0-9]+(\.[0-9]+)*{_END}"}},
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"manifest.json of a bundle, schema version {manifest.SCHEMA_VERSION}",
        "description": "docs/bundle-format.md says what the fields mean. Unknown keys are passed over.",
        **_object(required, {"engine": engine}),
        "$defs": {
            "path": _about(
                {"type": "string", "pattern": _PATH_PATTERN}, "Inside the bundle, with forward slashes."
            ),
            "names": _NAMES,
            "golden_sample": _object(
                {
                    "text": {"type": "string"},
                    "input_ids": {"type": "array", "items": _integer(0, LARGEST_ID)},
                    "logits": {"type": "array", "items": {"type": "number"}, "minItems": 1},
                    "label": {"type": "string"},
                },
                {"score": {"type": ["number", "null"], "minimum": 0, "maximum": 1}},
                description="A line of golden.jsonl.",
            ),
        },
    }
