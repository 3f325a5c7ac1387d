from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from evidence.rows import ROWS
from evidence.table import (
    COMPARATORS,
    EvidenceError,
    Measured,
    Outcome,
    Row,
    document,
    exit_code,
    holds,
    judge,
    number,
    select,
    show,
    write_document,
)
from rich.console import Console

REQUIRED = {
    "demo-time": ("<", 15),
    "teacher-accuracy": (">=", 0.925),
    "drop": ("<=", 0.01),
    "speedup-real": (">=", 15),
    "speedup-1x32": (">=", 9),
    "speedup-1x128": (">=", 5),
    "speedup-8x128": (">=", 6),
    "size": ("<=", 8),
    "base-import-seconds": ("<", 0.7),
    "base-memory": ("<", 200),
    "runtime-overhead": ("<=", 1.05),
    "help-seconds": ("<", 0.3),
    "repeat": ("==", 0),
    "resume": ("==", 0),
    "sms-drop": ("<=", 0.01),
    "sms-speedup": (">=", 8),
}


def row(
    value: float = 1.0, *, comparator: str = ">=", required: float = 1.0, name: str = "speed"
) -> Row[None]:
    return Row(
        id=name,
        what="What it is",
        comparator=comparator,
        required=required,
        unit="x",
        measure=lambda _: Measured(value=value, how="counted"),
    )


def outcome(met: bool, measured: float | None = 1.5) -> Outcome:
    return Outcome(
        id="a", what="W", comparator=">=", required=1, measured=measured, unit="x", met=met, how="because [x]"
    )


@pytest.mark.parametrize(
    ("measured", "comparator", "required", "expected"),
    [
        (0.0100, "<=", 0.01, True),
        (0.0101, "<=", 0.01, False),
        (15.0, "<", 15, False),
        (14.999, "<", 15, True),
        (14.999, ">=", 15, False),
        (15.0, ">=", 15, True),
        (0, "==", 0, True),
        (1, "==", 0, False),
        (-0.02, "<=", 0.01, True),
        (math.nan, "<=", 1, False),
        (math.inf, ">=", 1, False),
        (-math.inf, "<", 1, False),
    ],
)
def test_comparators(measured: float, comparator: str, required: float, expected: bool) -> None:
    assert holds(measured, comparator, required) is expected


def test_an_unknown_comparator_is_refused_when_the_table_is_made() -> None:
    with pytest.raises(ValueError, match="no comparator"):
        row(comparator="=<")


def test_the_table_claims_what_is_claimed() -> None:
    assert {r.id: (r.comparator, r.required) for r in ROWS} == REQUIRED
    assert len({r.id for r in ROWS}) == len(ROWS)
    assert all(r.what and r.unit for r in ROWS)
    assert set(COMPARATORS) >= {r.comparator for r in ROWS}


def test_a_figure_is_judged_unrounded() -> None:
    assert judge(row(0.99999999), None).met is False
    judged = judge(row(1.25), None)
    assert (judged.met, judged.measured, judged.how) == (True, 1.25, "counted")


@pytest.mark.parametrize("error", [EvidenceError("no demo"), KeyError("p50"), OSError("disk")])
def test_a_row_that_fails_is_shown_and_not_met(error: Exception) -> None:
    def fail(_: None) -> Measured:
        raise error

    judged = judge(Row(id="a", what="W", comparator="<=", required=1, unit="x", measure=fail), None)
    assert judged.met is False
    assert judged.measured is None
    assert judged.how.startswith("could not be measured: ")
    assert str(error) in judged.how


def test_a_figure_that_is_no_number_is_not_measured() -> None:
    judged = judge(row(math.nan), None)
    assert (judged.met, judged.measured) == (False, None)
    json.dumps(judged.to_dict(), allow_nan=False)


def test_ctrl_c_is_no_row_that_failed() -> None:
    def interrupted(_: None) -> Measured:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(Row(id="a", what="W", comparator="<=", required=1, unit="x", measure=interrupted), None)


def test_select_keeps_the_order_of_the_table() -> None:
    rows = [row(name=name) for name in ("a", "b", "c")]
    assert [r.id for r in select(rows, " c, a")] == ["a", "c"]
    assert select(rows, None) == rows
    assert select(rows, "") == rows


@pytest.mark.parametrize("wanted", ["a,x", "x", ",", " , "])
def test_select_refuses_what_is_no_row(wanted: str) -> None:
    with pytest.raises(ValueError, match="rows: a, b"):
        select([row(name="a"), row(name="b")], wanted)


def test_exit_code() -> None:
    assert exit_code([outcome(True), outcome(True)]) == 0
    assert exit_code([outcome(True), outcome(False)]) == 1
    assert exit_code([]) == 1


def test_the_document(tmp_path: Path) -> None:
    content = document(
        [outcome(True), outcome(False, None)], environment={"cpu": "x"}, commit="abc", dirty=True, code="k"
    )
    path = tmp_path / "results" / "demo.json"
    write_document(path, content)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert set(read) == {"environment", "commit", "dirty", "code", "created", "rows"}
    assert (read["commit"], read["dirty"], read["environment"]) == ("abc", True, {"cpu": "x"})
    assert [list(r) for r in read["rows"]] == [
        ["id", "what", "comparator", "required", "measured", "unit", "met", "how"]
    ] * 2
    assert [r["measured"] for r in read["rows"]] == [1.5, None]
    assert [p.name for p in path.parent.iterdir()] == ["demo.json"]


def test_the_printed_table_says_what_failed_and_why() -> None:
    output = io.StringIO()
    show([outcome(True), outcome(False, None)], Console(file=output, width=120), seconds=90)
    text = output.getvalue()
    assert "1.5" in text
    assert "not measured" in text
    assert "a: because [x]" in text
    assert "1 of 2 rows met, in 1.5 minutes" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (15.0, "15"),
        (0.925, "0.925"),
        (1.05, "1.05"),
        (0.0123456, "0.01235"),
        (1234.56, "1235"),
        (-0.002, "-0.002"),
    ],
)
def test_number(value: float, shown: str) -> None:
    assert number(value) == shown
