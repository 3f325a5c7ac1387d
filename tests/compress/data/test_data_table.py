"""Tables are read back as they were written, and what is ambiguous is refused with a place and a hint."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.compress.data.table import read_rows
from pocketformer.runtime.errors import DataError

_TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(lambda text: not text.isspace())
_LABEL = st.text(
    st.characters(exclude_categories=("Cs", "Zs", "Zl", "Zp", "Cc")), min_size=1, max_size=8
).filter(lambda label: label.strip() == label and not label.rstrip("0").endswith("."))
_ROWS = st.lists(st.tuples(_TEXT, _LABEL), min_size=1, max_size=8)


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write rows the way a user's own program would."""
    if path.suffix in {".csv", ".tsv"}:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([("text", "label"), *rows])
    elif path.suffix == ".jsonl":
        lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
        path.write_bytes("\n".join(lines).encode())
    else:
        columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
@settings(max_examples=60)
@given(rows=_ROWS)
def test_texts_and_labels_come_back_as_written(
    tmp_path: Path, ending: str, rows: list[tuple[str, str]]
) -> None:
    result = read_rows(write(tmp_path / f"data{ending}", rows), "text", "label")
    assert list(zip(result.texts, result.labels or (), strict=True)) == rows
    assert (result.rows_read, result.empty_texts) == (len(rows), 0)


@settings(max_examples=200)
@given(
    content=st.binary(min_size=1, max_size=60), ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"])
)
def test_any_bytes_give_rows_or_a_data_error(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"data{ending}"
    path.write_bytes(b"text,label\n" + content if ending == ".csv" else content)
    message = "no error"
    try:
        assert read_rows(path, "text", "label").texts
    except DataError as error:
        message = error.message
    assert message == "no error" or path.name in message


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("a.csv", b"", "is empty", ""),
        ("a.csv", b"\xef\xbb\xbf \n", "white space only", ""),
        ("a.csv", b"text,label\n", "no rows", ""),
        ("a.csv", b"text,label\n,x\n  ,y\n", "none of its 2 rows has text", ""),
        ("a.csv", b"Text,label\na,b\n", "no column 'text'; there are 'Text', 'label'", "'Text'"),
        ("a.csv", b"sentence,labels\na,b\n", "no column 'text'", ""),
        ("a.csv", b"text,labels\na,b\n", "no column 'label'", "'labels'"),
        ("a.csv", b"text;label\na;b\n", "no column 'text'", "separator"),
        ("a.csv", b"text,label,text\na,b,c\n", "2 columns are named 'text'", ""),
        ("a.csv", b"text,label\na,b\nc,d,e\n", "line 3 has 3 fields, the header has 2", "quotes"),
        ("a.csv", b'text,label\n"a "b" c",x\n', "line 2", "doubled"),
        ("a.csv", b'text,label\n"a,x\nb,y\n', "line 3", "doubled"),
        ("a.csv", b"text,label\na,b\ncaf\xe9,d\n", "line 3: byte 0xe9 at offset 18", "latin1"),
        ("a.tsv", "text\tlabel\na\tb\n".encode("utf-16"), "byte 0xff at offset 0", "utf-16"),
        ("a.csv", b"text,label\na,x\nb,\nc, \n", "2 rows have text but no 'label': line 3, line 4", ""),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "b"\n', "line 2 is not JSON", ""),
        ("a.jsonl", b'["a", 1]\n', "line 1 holds ['a', 1], not an object", ""),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "b"}\n', "line 2 has no 'label'", ""),
        ("a.jsonl", b'{"text": 3, "label": 1}\n', "line 1: 'text' holds 3", ""),
        ("a.jsonl", b'{"text": "a", "label": [1]}\n', "line 1: 'label' holds [1]", ""),
        ("a.jsonl", b'{"txt": "a", "label": 1}\n', "no column 'text'", "'txt'"),
        ("a.parquet", b"PAR1 and nothing more", "not a whole Parquet file", ""),
        ("a.xlsx", b"PK", "ending '.xlsx'", ""),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str, hint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_rows(path, "text", "label")
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_missing_file_suggests_the_nearest_and_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text\na\n")
    with pytest.raises(DataError, match="no such file") as caught:
        read_rows(tmp_path / "trian.csv", "text", None)
    assert "train.csv" in (caught.value.hint or "")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="not a file"):
        read_rows(tmp_path / "folder.csv", "text", None)


def test_labels_are_the_same_strings_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\nb, 2.0 \n,\nc,2.5\n")
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a", "label": 1}\n{"text": "b", "label": 2.0}\n\n{"text": null, "label": null}\n'
        '{"text": "c", "label": 2.5}\n'
    )
    table = pyarrow.table({"text": ["a", "b", None, "c"], "label": [1.0, 2.0, None, 2.5]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for ending in ("csv", "jsonl", "parquet"):
        rows = read_rows(tmp_path / f"a.{ending}", "text", "label")
        assert rows.labels == ("1", "2", "2.5"), ending
        assert (rows.rows_read, rows.empty_texts) == (4, 1), ending


def test_byte_order_mark_blank_lines_and_unnamed_columns_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeff,label,text\r\n\r\n0,ham,one\r\n   \r\n1,spam,two\r\n".encode())
    rows = read_rows(path, "text", "label")
    assert (rows.texts, rows.labels) == (("one", "two"), ("ham", "spam"))
    assert read_rows(path, "text", None).labels is None


def test_half_a_surrogate_pair_becomes_a_replacement_character(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a \\ud83d b"}\n{"text": "\\ud83d\\ude00"}\n')
    assert read_rows(path, "text", None).texts == ("a \ufffd b", "\U0001f600")


def test_a_field_longer_than_the_csv_limit_is_read_and_the_limit_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "word " * 40_000 + "\n")
    limit = csv.field_size_limit()
    assert len(read_rows(path, "text", None).texts[0]) == 200_000
    assert csv.field_size_limit() == limit
