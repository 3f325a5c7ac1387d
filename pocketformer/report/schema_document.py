"""Writes what the documentation says of the schema: the JSON Schema and the table of fields.

    python -m pocketformer.report.schema_document docs

A test keeps both equal to the models.
"""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path

from pydantic import BaseModel

from pocketformer.report.schema import Report
from pocketformer.report.storage import write_json_schema, write_whole

SCHEMA_FILE = "report.schema.json"
DOCUMENT_FILE = "report-schema.md"
START, END = "<!-- fields: generated -->", "<!-- end of fields -->"


def field_tables() -> str:
    """Every model of the schema with its fields, in Markdown, the report first."""
    parts = []
    for model in _models(Report, []):
        lines = [f"### {model.__name__}", "", (model.__doc__ or "").strip(), "", "| Field | Type | Meaning |"]
        lines.append("|---|---|---|")
        for name, field in model.model_fields.items():
            kind = _type_name(field.annotation) + ("" if field.is_required() else ", optional")
            lines.append(f"| `{name}` | {kind} | {field.description} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _models(model: type[BaseModel], seen: list[type[BaseModel]]) -> list[type[BaseModel]]:
    if model not in seen:
        seen.append(model)
        for field in model.model_fields.values():
            for inner in _inner_models(field.annotation):
                _models(inner, seen)
    return seen


def _inner_models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _inner_models(part)]


def _type_name(annotation: object) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(parts[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if p is type(None) else _type_name(p) for p in parts)
    if origin is typing.Literal:
        return " or ".join(f"`{p!r}`".replace("'", '"') for p in parts)
    if origin is list:
        return f"list of {_type_name(parts[0])}"
    if origin is dict:
        return f"object of {_type_name(parts[1])}"
    if origin is tuple:
        return "[low, high]"
    names = {str: "text", float: "number", int: "integer", bool: "true or false", typing.Any: "anything"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return names.get(annotation, "date and time")  # type: ignore[call-overload, no-any-return]


def document_with_fields(text: str) -> str:
    """``text`` with what stands between the two marks replaced; ``ValueError`` when a mark is missing."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the document lacks {START} or {END}")
    return f"{before}{START}\n\n{field_tables()}\n\n{END}{after}"


def write_documents(directory: Path) -> list[Path]:
    """Bring both files in ``directory`` up to date; the Markdown one must exist, with its two marks."""
    document = directory / DOCUMENT_FILE
    schema = write_json_schema(directory / SCHEMA_FILE)
    return [schema, write_whole(document, document_with_fields(document.read_text(encoding="utf-8")))]


if __name__ == "__main__":
    write_documents(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
