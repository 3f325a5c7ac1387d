"""Reading and writing ``report.json``, and its JSON Schema."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pocketformer.report.schema import SCHEMA_VERSION, Report
from pocketformer.runtime.errors import InputError

REPORT_FILE = "report.json"
_SHOWN_PROBLEMS = 3


def load_report(path: str | Path) -> Report:
    """Read a report: ``path`` is a ``report.json`` or a run directory that holds one.

    ``InputError`` when it is missing, is no JSON, has another schema version, or does not fit the schema.
    """
    file = Path(path)
    if file.is_dir():
        file = file / REPORT_FILE
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"{file}: there is no report here",
            hint="Name a report.json, or a run directory in which a run has ended.",
        ) from error
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read: {error.strerror}", hint="Check its permissions."
        ) from error
    return parse_report(content, origin=str(file))


def parse_report(content: bytes | str, *, origin: str = "report") -> Report:
    """Read a report from JSON; ``origin`` names it in errors (``InputError``, as in ``load_report``)."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{origin}: is not valid JSON ({error})",
            hint="The file is damaged or is no report; `pocketformer report RUN` writes it again.",
        ) from error
    if not isinstance(data, dict) or "schema_version" not in data:
        raise InputError(
            f"{origin}: is JSON, but no report (it has no schema_version)",
            hint="Name the report.json of a run directory.",
        )
    version = data["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:
        newer = type(version) is int and version > SCHEMA_VERSION
        raise InputError(
            f"{origin}: has schema version {version!r}; this Pocketformer reads version {SCHEMA_VERSION}",
            hint="Upgrade Pocketformer." if newer else "Run `pocketformer report RUN` to write it again.",
        )
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        raise InputError(
            f"{origin}: does not fit the report schema: {_problems(error)}",
            hint="docs/report-schema.md describes every field; `pocketformer report RUN` writes it again.",
        ) from error


def _problems(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        "{}: {}".format(".".join(map(str, e["loc"])) or "report", e["msg"]) for e in found[:_SHOWN_PROBLEMS]
    ]
    if len(found) > _SHOWN_PROBLEMS:
        shown.append(f"and {len(found) - _SHOWN_PROBLEMS} more")
    return "; ".join(shown)


def dump_report(report: Report) -> str:
    """The text of ``report.json``: two spaces deep, lists of numbers on one line, ending in a newline."""
    return _dump(report.model_dump(mode="json"), 0) + "\n"


def _dump(value: Any, depth: int) -> str:
    """``json.dumps(indent=2)``, but thousands of raw samples do not take a line each."""
    if isinstance(value, list) and all(isinstance(v, (int, float)) for v in value):
        return json.dumps(value)
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict) and value:
        rows = [
            f"{inner}{json.dumps(k, ensure_ascii=False)}: {_dump(v, depth + 1)}" for k, v in value.items()
        ]
        return "{\n" + ",\n".join(rows) + f"\n{outer}}}"
    if isinstance(value, list):
        rows = [inner + _dump(v, depth + 1) for v in value]
        return "[\n" + ",\n".join(rows) + f"\n{outer}]"
    return json.dumps(value, ensure_ascii=False)


def save_report(report: Report, path: str | Path) -> Path:
    """Write ``report.json`` whole or not at all; ``path`` is the file or an existing directory."""
    file = Path(path)
    if file.is_dir():
        file = file / REPORT_FILE
    return write_whole(file, dump_report(report))


def write_whole(file: Path, text: str) -> Path:
    """Write UTF-8 text beside ``file`` and rename it, so that a killed process leaves no half file."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return file


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of ``report.json``."""
    schema = Report.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def write_json_schema(path: str | Path) -> Path:
    """Write the JSON Schema; a test keeps ``docs/report.schema.json`` equal to it."""
    return write_whole(Path(path), json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
