from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evidence_demo
import pytest
from evidence import command
from evidence.table import EvidenceError, Measured, Row


def measure_speed(runs: Any) -> Measured:
    return Measured(value=runs.speed, how="counted")


def measure_nothing(runs: Any) -> Measured:
    raise EvidenceError("make demo ended with exit code 2")


ROWS: Any = (
    Row(id="speed", what="Speed", comparator=">=", required=2, unit="x", measure=measure_speed),
    Row(id="broken", what="Broken", comparator="<=", required=1, unit="s", measure=measure_nothing),
)


@pytest.fixture(autouse=True)
def _all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    # The affinity of the test process must outlive this test.
    monkeypatch.setattr(command, "limit_cores", lambda count: None)


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    repository = SimpleNamespace(commit=lambda: "a" * 40, dirty=lambda: False, code_key=lambda: "k" * 16)
    return SimpleNamespace(
        repository=repository, folder=tmp_path, speed=3.0, packages=dict, others=lambda: []
    )


def call(runs: Any, tmp_path: Path, *arguments: str) -> tuple[int, Any]:
    output = tmp_path / "demo.json"
    code = evidence_demo.main([*arguments, "--output", str(output)], runs=runs, rows=ROWS)
    return code, json.loads(output.read_text(encoding="utf-8"))


def test_all_met(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, content = call(runs, tmp_path, "--rows", "speed")
    assert code == 0
    assert (content["commit"], content["dirty"], content["code"]) == ("a" * 40, False, "k" * 16)
    assert content["environment"]["cores"] >= 1
    assert content["rows"] == [
        {
            "id": "speed",
            "what": "Speed",
            "comparator": ">=",
            "required": 2,
            "measured": 3.0,
            "unit": "x",
            "met": True,
            "how": "counted",
        }
    ]
    assert "1 of 1 rows met" in capsys.readouterr().out


def test_a_row_not_met_ends_with_one(runs: Any, tmp_path: Path) -> None:
    runs.speed = 1.9
    code, content = call(runs, tmp_path, "--rows", "speed")
    assert code == 1
    assert content["rows"][0]["met"] is False


def test_a_row_that_cannot_be_measured_ends_with_one_and_spares_the_others(
    runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, content = call(runs, tmp_path)
    assert code == 1
    assert [(row["id"], row["measured"], row["met"]) for row in content["rows"]] == [
        ("speed", 3.0, True),
        ("broken", None, False),
    ]
    assert "make demo ended with exit code 2" in content["rows"][1]["how"]
    assert "not measured" in capsys.readouterr().out


def test_an_unknown_row_is_refused_before_anything_is_written(runs: Any, tmp_path: Path) -> None:
    output = tmp_path / "demo.json"
    with pytest.raises(SystemExit) as ended:
        evidence_demo.main(["--rows", "sped", "--output", str(output)], runs=runs, rows=ROWS)
    assert ended.value.code == 2
    assert not output.exists()


def test_code_that_changes_while_it_is_measured_fails(runs: Any, tmp_path: Path) -> None:
    keys = iter("ab")
    runs.repository.code_key = lambda: next(keys)
    assert call(runs, tmp_path, "--rows", "speed")[0] == 1


def test_an_earlier_result_is_never_read(runs: Any, tmp_path: Path) -> None:
    stored = {"rows": [{"id": "broken", "met": True, "measured": 0.1}]}
    (tmp_path / "demo.json").write_text(json.dumps(stored), encoding="utf-8")
    code, content = call(runs, tmp_path)
    assert code == 1
    assert content["rows"][1]["measured"] is None


def test_the_list_runs_nothing(runs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence_demo.main(["--list"], runs=runs, rows=ROWS) == 0
    assert "broken" in capsys.readouterr().out


def test_fresh_forgets_the_kept_runs_of_this_code(runs: Any, tmp_path: Path) -> None:
    runs.folder = tmp_path / "evidence" / "key"
    (runs.folder / "demo").mkdir(parents=True)
    call(runs, tmp_path, "--rows", "speed")
    assert (runs.folder / "demo").is_dir()
    call(runs, tmp_path, "--rows", "speed", "--fresh")
    assert not runs.folder.exists()
