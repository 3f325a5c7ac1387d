"""Reads one table of texts and labels from CSV, TSV, JSON lines or Parquet, and refuses what is ambiguous.

Every refusal is a ``DataError`` that names the file, the line (or row) and what to do. Nothing is guessed:
a ragged line, a missing label or a byte that is not UTF-8 ends the reading.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketformer.runtime.errors import DataError, MissingDependencyError

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_LONGEST_FIELD = 2**31 - 1  # the csv module's own limit of 131,072 characters is below real documents
_WHOLE_NUMBER = re.compile(r"[+-]?\d+\.0+")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one file that have text, in the file's order.

    ``labels`` are strings (the integer 1 and the float 1.0 are both "1"), None when no label column was
    asked for. ``rows_read`` counts all rows, ``empty_texts`` those dropped for want of text.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None
    rows_read: int
    empty_texts: int

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class _Record:
    where: str
    text: object
    label: object


def read_rows(path: Path, text_column: str, label_column: str | None) -> Rows:
    """Read the text column, and the label column unless it is None, of one file.

    The ending decides the format: .csv and .tsv (first line names the columns, quotes are doubled), .jsonl
    or .ndjson (one object a line), .parquet. ``DataError`` for whatever cannot be read without guessing,
    ``MissingDependencyError`` when Parquet is asked for without pyarrow.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{path}: the ending {path.suffix!r} is none of {', '.join(FORMATS)}",
            hint="Save the data in one of these formats.",
        )
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file", hint=_similar_files(path))
        if not path.is_file():
            raise DataError(f"{path}: is not a file", hint="Give the path of one data file.")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty", hint="It needs a header and at least one row.")
        if kind == "parquet":
            records = _read_parquet(path, text_column, label_column)
        elif kind == "jsonl":
            records = _read_json_lines(path, _decode(path), text_column, label_column)
        else:
            delimiter = "," if kind == "csv" else "\t"
            records = _read_delimited(path, _decode(path), delimiter, text_column, label_column)
        return _collect(path, records, text_column, label_column)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _collect(path: Path, records: Iterator[_Record], text_column: str, label_column: str | None) -> Rows:
    texts: list[str] = []
    labels: list[str] = []
    unlabelled: list[str] = []
    rows_read = 0
    for record in records:
        rows_read += 1
        text = _text_of(path, record, text_column)
        if text is None:
            continue
        texts.append(text)
        if label_column is not None:
            label = _label_of(path, record, label_column)
            if label is None:
                unlabelled.append(record.where)
            else:
                labels.append(label)
    if rows_read == 0:
        raise DataError(f"{path}: has no rows", hint="It needs at least one row beside the column names.")
    if not texts:
        raise DataError(
            f"{path}: none of its {rows_read} rows has text in column {text_column!r}",
            hint="Name the column that holds the text.",
        )
    if unlabelled:
        places = ", ".join(unlabelled[:5]) + (", ..." if len(unlabelled) > 5 else "")
        raise DataError(
            f"{path}: {len(unlabelled)} rows have text but no {label_column!r}: {places}",
            hint="Fill in these labels or take the rows out.",
        )
    return Rows(
        texts=tuple(texts),
        labels=None if label_column is None else tuple(labels),
        rows_read=rows_read,
        empty_texts=rows_read - len(texts),
    )


def _text_of(path: Path, record: _Record, column: str) -> str | None:
    value = record.text
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise DataError(
            f"{path}: {record.where}: {column!r} holds {_shown(value)}, which is not text",
            hint="Name the column that holds the text, or write its values as strings.",
        )
    if not value or value.isspace():
        return None
    if any("\ud800" <= character <= "\udfff" for character in value):
        # JSON can spell halves of surrogate pairs, which no tokenizer and no file can carry further.
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _label_of(path: Path, record: _Record, column: str) -> str | None:
    value = record.label
    if isinstance(value, str):
        label = value.strip()
        # Writers turn integers into floats where a column has gaps: the label is the integer all the same.
        return (label.partition(".")[0] if _WHOLE_NUMBER.fullmatch(label) else label) or None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, (bool, int)):
        return str(value)
    raise DataError(
        f"{path}: {record.where}: {column!r} holds {_shown(value)}, which is not a label",
        hint="A label is a name or a whole number, one a row.",
    )


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = f"Save it as UTF-8, for instance: iconv -f latin1 -t utf-8 {path.name} > utf8-{path.name}"
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            hint = f"It looks like UTF-16: iconv -f utf-16 -t utf-8 {path.name} > utf8-{path.name}"
        raise DataError(
            f"{path}: line {line}: byte {data[error.start]:#04x} at offset {error.start} is not UTF-8",
            hint=hint,
        ) from error
    text = text.removeprefix("\ufeff")
    if not text or text.isspace():
        raise DataError(f"{path}: the file holds white space only", hint="It needs a header and a row.")
    return text


def _read_delimited(
    path: Path, content: str, delimiter: str, text_column: str, label_column: str | None
) -> Iterator[_Record]:
    field_limit = csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        header: list[str] | None = None
        text_at, label_at = 0, None
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip() and header is not None and len(header) > 1):
                continue  # a blank line
            if header is None:
                header = [name.strip() for name in row]
                text_at = _column_index(path, header, text_column)
                label_at = None if label_column is None else _column_index(path, header, label_column)
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path}: line {reader.line_num} has {len(row)} fields, the header has {len(header)}",
                    hint=f"A field that holds {delimiter!r} stands in quotes, its own quotes doubled.",
                )
            yield _Record(
                f"line {reader.line_num}", row[text_at], None if label_at is None else row[label_at]
            )
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num}: {error}",
            hint="A quote that is part of the text is doubled, inside a field that stands in quotes.",
        ) from error
    finally:
        csv.field_size_limit(field_limit)


def _read_json_lines(
    path: Path, content: str, text_column: str, label_column: str | None
) -> Iterator[_Record]:
    # Not splitlines(): U+2028 and its like are legal inside a JSON string.
    columns_checked = False
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: {where} is not JSON ({error})", hint="Write one JSON object on each line."
            ) from error
        if not isinstance(value, dict):
            raise DataError(
                f"{path}: {where} holds {_shown(value)}, not an object",
                hint=f'Write one object a line, like {{"{text_column}": "...", "label": "..."}}.',
            )
        if not columns_checked:
            _column_index(path, list(value), text_column)
            if label_column is not None:
                _column_index(path, list(value), label_column)
            columns_checked = True
        for column in (text_column, label_column):
            if column is not None and column not in value:
                raise DataError(
                    f"{path}: {where} has no {column!r}, unlike the lines before",
                    hint="Every line needs the same keys; write null where a value is missing.",
                )
        yield _Record(where, value[text_column], None if label_column is None else value[label_column])


def _read_parquet(path: Path, text_column: str, label_column: str | None) -> Iterator[_Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: reading Parquet needs pyarrow", hint="pip install 'pocketformer[compress]'"
        ) from error
    wanted = [text_column] if label_column is None else [text_column, label_column]
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names: list[str] = file.schema_arrow.names
            for column in wanted:
                _column_index(path, names, column)
            table = file.read(columns=wanted)
        texts: list[Any] = table.column(text_column).to_pylist()
        labels: list[Any] = [None] * len(texts)
        if label_column is not None:
            labels = table.column(label_column).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: is not a whole Parquet file ({str(error).splitlines()[0]})",
            hint="Write the file again.",
        ) from error
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
        yield _Record(f"row {number}", text, label)


def _column_index(path: Path, columns: Sequence[str], wanted: str) -> int:
    count = columns.count(wanted)
    if count == 1:
        return columns.index(wanted)
    if count > 1:
        raise DataError(f"{path}: {count} columns are named {wanted!r}", hint="Rename all but one of them.")
    by_lower = {name.lower(): name for name in reversed(columns)}
    near = difflib.get_close_matches(wanted.lower(), list(by_lower), n=1, cutoff=0.5)
    hint = f"Did you mean {by_lower[near[0]]!r}?" if near else "Name the column to read."
    if len(columns) == 1 and any(mark in columns[0] for mark in "\t;|,"):
        hint = "The header is one single name: is the separator another one than the file's ending says?"
    listed = ", ".join(repr(name) for name in columns[:20]) + (", ..." if len(columns) > 20 else "")
    raise DataError(f"{path}: no column {wanted!r}; there are {listed}", hint=hint)


def _similar_files(path: Path) -> str:
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in FORMATS]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / near[0]}?" if near else "Check the path."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
