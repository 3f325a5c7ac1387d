from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.report.schema import Report
from pocketformer.report.storage import dump_report, load_report, parse_report, save_report
from pocketformer.runtime.errors import InputError


def test_a_report_survives_the_disk(sample_report: Report, tmp_path: Path) -> None:
    path = save_report(sample_report, tmp_path)
    assert path == tmp_path / "report.json"
    assert load_report(tmp_path) == load_report(path) == sample_report
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_raw_samples_do_not_take_a_line_each(sample_report: Report) -> None:
    text = dump_report(sample_report)
    assert text.endswith("}\n")
    assert text.count("\n") < 1500
    assert json.loads(text) == sample_report.model_dump(mode="json")


def test_a_missing_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no report here") as caught:
        load_report(tmp_path)
    assert str(tmp_path / "report.json") in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "no report"),
        (b"{}", "no report"),
        (b'{"schema_version": "1"}', "schema version '1'"),
        (b'{"schema_version": true}', "schema version True"),
        (b'{"schema_version": 0}', "schema version 0"),
    ],
)
def test_what_is_no_report(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_report(path)
    assert caught.value.hint
    assert str(path) in caught.value.message


def test_a_newer_version_asks_for_an_upgrade() -> None:
    with pytest.raises(InputError, match="schema version 2") as caught:
        parse_report('{"schema_version": 2, "news": 1}')
    assert caught.value.hint is not None
    assert "Upgrade" in caught.value.hint


def test_a_wrong_field_is_named_with_its_path(sample_report: Report) -> None:
    data = sample_report.model_dump(mode="json")
    data["devices"][0]["result"]["metric"] = 92.8
    with pytest.raises(InputError, match=r"devices\.0\.result\.metric"):
        parse_report(json.dumps(data))


def test_many_wrong_fields_are_counted(sample_report: Report) -> None:
    data = sample_report.model_dump(mode="json")
    for step in data["steps"]:
        step["metric"] = "good"
    with pytest.raises(InputError, match="and 4 more"):
        parse_report(json.dumps(data))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_end_in_another_error(content: bytes) -> None:
    with pytest.raises(InputError):
        parse_report(content)
