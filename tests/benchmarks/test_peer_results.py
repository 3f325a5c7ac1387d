from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from evidence.search_peers import ROWS
from evidence.table import EvidenceError, judge
from peers import markdown, picture
from peers.results import best_peer, smallest_peer, summary, with_ratios
from peers.setups import OURS, REFERENCE, SETUPS, select_setups

WORKLOADS = ("real", "1x32", "1x128", "8x128")


def row(setup: str, p50: float | None, **changes: Any) -> dict[str, Any]:
    error = None if p50 is not None else "it crashed"
    values = {
        "data": "trec",
        "workload": "real",
        "metric": 0.93,
        "drop": 0.0,
        "file_mb": 90.0,
        "error": error,
    }
    return {
        "setup": setup,
        "p50_ms": p50,
        "p90_ms": p50,
        "calls": 200,
        "drop_ci95": None,
        **values,
        **changes,
    }


def grid(ours: float = 1.0) -> list[dict[str, Any]]:
    rows = []
    for workload in WORKLOADS:
        rows += [
            row(REFERENCE, 18.0, workload=workload),
            row("quick-but-wrong", 2.0, workload=workload, drop=0.011, file_mb=5.0),
            row("sound", 4.0, workload=workload, drop=0.01, file_mb=23.0),
            row("broken", None, workload=workload, drop=None, file_mb=None),
            row(OURS, ours, workload=workload, drop=0.006, file_mb=3.0),
        ]
    return with_ratios(rows)


def content(rows: list[dict[str, Any]]) -> dict[str, Any]:
    setup = {
        "title": "",
        "made": {"route": "x"},
        "run": {"threads": 2},
        "versions": {"onnx": "1"},
        "ships": [],
    }
    setups = {name: {**setup, "title": name.title()} for name in dict.fromkeys(r["setup"] for r in rows)}
    about = {
        "metric": "accuracy",
        "test_texts": 1000,
        "rounds": 10,
        "measured": "2026-01-01",
        "setups": setups,
    }
    return {
        "environment": {"cpu": "A <processor>", "cpu_flags": ["avx2"], "cores": 2, "threads": 2},
        "commit": "0123456789abcdef",
        "dirty": False,
        "max_drop": 0.01,
        "data": {"trec": about},
        "summary": summary(rows),
        "rows": rows,
    }


def test_the_best_peer_is_the_fastest_that_answers_well_enough() -> None:
    rows = [r for r in grid() if r["workload"] == "real"]
    best, small = best_peer(rows), smallest_peer(rows)
    assert best is not None
    assert small is not None
    assert (best["setup"], small["setup"]) == ("sound", "sound")
    loose = best_peer(rows, max_drop=0.02)
    assert loose is not None
    assert loose["setup"] == "quick-but-wrong"
    assert best_peer([row(OURS, 1.0), row("broken", None)]) is None


def test_a_drop_of_exactly_the_limit_counts_in_binary_too() -> None:
    assert best_peer([row("peer", 1.0, drop=0.936 - 0.926)]) is not None


def test_ratios_are_of_the_same_data_and_workload() -> None:
    rows = with_ratios(
        [row(REFERENCE, 10.0), row(OURS, 2.0), row(REFERENCE, 30.0, data="sms"), row(OURS, 3.0, data="sms")]
    )
    assert [r["faster_than_eager"] for r in rows] == [1.0, 5.0, 1.0, 10.0]
    assert rows[1]["faster_than_best_peer"] == 5.0
    assert with_ratios([row("broken", None)])[0]["faster_than_eager"] is None


def test_the_summary_says_by_how_much_for_each_workload_and_for_the_files() -> None:
    found = summary(grid())
    assert [item.get("workload") for item in found] == [*WORKLOADS, None]
    assert {item["faster_than_best_peer"] for item in found[:-1]} == {4.0}
    assert found[-1]["smaller_than_smallest_peer"] == pytest.approx(23 / 3)


def test_without_any_able_peer_there_is_no_ratio() -> None:
    rows = with_ratios([row(OURS, 1.0), row("broken", None)])
    assert rows[0]["faster_than_best_peer"] is None
    assert summary(rows)[0]["best_peer"] is None


class Kept:
    """Stands in for a grid that was measured."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._content = content(rows)

    def peers(self) -> dict[str, Any]:
        return self._content


def test_rows_of_the_evidence_are_judged_on_the_grid() -> None:
    outcomes = {r.id: judge(r, Kept(grid())) for r in ROWS}
    assert all(outcome.met for outcome in outcomes.values())
    assert "broken" in outcomes["peer-real"].how
    slower = {r.id: judge(r, Kept(grid(ours=1.5))).met for r in ROWS}
    assert slower == {name: name == "peer-size" for name in outcomes}


@pytest.mark.parametrize("changes", [{"drop": 0.02}, {"error": "killed", "p50_ms": None}])
def test_a_bundle_that_answers_badly_or_fails_meets_no_row(changes: dict[str, Any]) -> None:
    rows = [{**r, **changes} if r["setup"] == OURS else r for r in grid()]
    assert not any(judge(r, Kept(with_ratios(rows))).met for r in ROWS)


def test_a_grid_without_our_row_is_an_error() -> None:
    with pytest.raises(EvidenceError, match="no row of Pocketformer"):
        ROWS[0].measure(Kept([r for r in grid() if r["setup"] != OURS]))


def test_setups_are_chosen_by_name_and_never_without_the_reference() -> None:
    assert select_setups(None) == list(SETUPS)
    assert [s.name for s in select_setups(f" {OURS} , olive-int8")] == [REFERENCE, "olive-int8", OURS]
    with pytest.raises(ValueError, match="no setup onyx"):
        select_setups("onyx")
    names = [setup.name for setup in SETUPS]
    assert len(set(names)) == len(names)


def test_the_table_shows_figures_failures_and_the_machine() -> None:
    text = markdown.table(content(grid()))
    assert "| **Pocketformer** | 3.0 | 0.930 | 0.6 | 1.00 18.0x |" in text
    assert "| Broken | | | | failed: it crashed |" in text
    assert "without VNNI" in text
    assert "real: 4.00 times as fast as the best peer (Sound)" in text
    assert "7.67 times smaller" in text


def test_the_picture_is_drawn_with_every_setup(tmp_path: Path) -> None:
    picture.draw(content(grid()), tmp_path / "cpu")
    assert (tmp_path / "cpu.png").read_bytes().startswith(b"\x89PNG")
    ET.parse(tmp_path / "cpu.svg")  # well-formed, in spite of what the processor is called
