from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evidence_search
import pytest
from evidence import search_fast
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
