from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evidence_search
import pytest
from evidence import search_budgets, search_fast
from evidence.search import SearchRuns
from evidence.table import EvidenceError, judge

GRAPH = {
    "teacher_ms": 150.0,
    "result_ms": 75.0,
    "teacher_accuracy": 0.93,
    "result_accuracy": 0.925,
    "rows": 1000,
    "rounds": 30,
    "threads": 2,
}


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    """A run that took 70 of 200 seconds to search, and what was measured of its graph."""
    stages = [
        {"name": "prune", "seconds": 70.5, "metrics": {"trials": 5.0}},
        {"name": "report", "seconds": 1.0},
    ]
    (tmp_path / "run.json").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    device = SimpleNamespace(result=SimpleNamespace(drop=0.002, file_mb=20.0))
    run = SimpleNamespace(
        output=tmp_path, device=device, details={"seconds": 200.0, "cores": 2, "made": "today"}
    )
    return SimpleNamespace(fast=lambda: run, fast_graph=GRAPH)


def test_the_rows_measure_what_they_say(runs: Any) -> None:
    assert search_fast.speedup(runs).value == pytest.approx(2.0)
    assert search_fast.drop(runs).value == pytest.approx(0.005)
    assert search_fast.shipped_drop(runs).value == 0.002
    seconds = search_fast.seconds(runs)
    assert seconds.value == 70.5
    assert "5 trials" in seconds.how


def test_other_cores_than_the_claim_is_for_are_no_measurement(runs: Any) -> None:
    runs.fast().details["cores"] = 8
    with pytest.raises(EvidenceError, match="8 cores"):
        search_fast.seconds(runs)


def test_a_run_without_a_measured_result_is_not_met(runs: Any) -> None:
    runs.fast().device.result = None
    row = next(row for row in evidence_search.ROWS if row.id == "fast-shipped-drop")
    outcome = judge(row, runs)
    assert not outcome.met
    assert "no drop" in outcome.how


def test_the_run_is_made_once_from_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def pretend(argv: list[str], *, log: Path, folder: Path, **_: Any) -> tuple[int, float]:
        called.append(argv)
        (folder / "run").mkdir()
        (folder / "run" / "run.json").write_text("{}", encoding="utf-8")
        return 3, 12.0

    monkeypatch.setattr("evidence.search.run_logged", pretend)
    repository: Any = SimpleNamespace(root=tmp_path, code_key=lambda: "key")
    search = SearchRuns(repository)
    search.__dict__["inputs"] = SimpleNamespace(model="minilm", train="train.csv", test="test.csv")
    first, again = search.fast(), search.fast()
    assert first.details["exit_code"] == again.details["exit_code"] == 3
    verbs = [argv[argv.index("pocketformer") + 1] for argv in called]
    assert verbs == ["finetune", "compress"]
    assert called[1][4] == str(search.folder / "teacher" / "run" / "stages" / "01-finetune" / "model")
    assert "--fast" in called[1]
    assert search.search().output != search.demo_run()
    # The teacher is there; the demo starts from the model as it is.
    assert ["--search" in argv for argv in called[2:]] == [True, False]
    assert called[3][4] == "minilm"


def _trials(*figures: tuple[float, float]) -> list[dict[str, Any]]:
    """Trials of a search by smoothed drop and ms on 8 x 128."""
    return [
        {"number": i, "drop": 0.5, "smoothed_drop": drop, "latency_ms": {"8x128": ms}}
        for i, (drop, ms) in enumerate(figures, start=1)
    ]


@pytest.mark.parametrize(
    ("drop", "limit_ms", "taken", "right"),
    [
        (0.01, 15.0, 2, True),  # the fastest of those that keep the drop
        (0.01, 15.0, 1, False),
        (0.01, 25.0, 2, False),  # that one keeps the budget: 3 was the wrong exit code
        (0.001, 50.0, 1, True),  # none keeps the drop
        (0.001, 50.0, 3, False),
    ],
)
def test_a_budget_that_nothing_keeps_is_answered_by_the_nearest(
    drop: float, limit_ms: float, taken: int, right: bool
) -> None:
    trials = _trials((0.005, 40.0), (0.01, 20.0), (0.05, 10.0))
    assert search_budgets.nearest_was_taken(trials, taken, drop=drop, limit_ms=limit_ms) is right


def test_twelve_budgets_are_asked_of_one_search() -> None:
    asked: list[tuple[float, float]] = []
    trials = _trials((0.005, 40.0), (0.01, 20.0), (0.05, 10.0))

    def answer(drop: float, limit_ms: float) -> Any:
        asked.append((drop, limit_ms))
        kept = (drop >= 0.01 and limit_ms >= 20) or limit_ms >= 40
        taken = 2 if drop >= 0.01 else 1
        stages = [{"name": "choose", "config": {"model": taken}}]
        return SimpleNamespace(details={"exit_code": 0 if kept else 3, "stages": stages})

    eager = SimpleNamespace(latency_ms={"8x128": SimpleNamespace(p50=120.0)})
    search = SimpleNamespace(
        device=SimpleNamespace(baselines=SimpleNamespace(torch_eager=eager)),
        details={"stages": [{"name": "search", "details": {"trials": trials}}]},
    )
    runs: Any = SimpleNamespace(search=lambda: search, answer=answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            search_budgets,
            "stage_of",
            lambda run, name: next(s for s in run.details["stages"] if s["name"] == name),
        )
        measured = search_budgets.answers(runs)
    assert asked == list(itertools.product((0.005, 0.01, 0.02, 0.04), (40.0, 24.0, 12.0)))
    assert measured.value == 12
    assert "0.5/5: nearest" in measured.how
    assert "4/3: kept" in measured.how
