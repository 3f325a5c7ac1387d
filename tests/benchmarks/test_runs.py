from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from evidence.runs import Finished, Runs, copy_until, stage_to_kill
from evidence.table import EvidenceError

# Does what the evidence needs of `pocketformer run`: three stages, made in a temporary folder and renamed.
PROGRAM = """#!{python}
import json, os, shutil, sys, time
output = sys.argv[sys.argv.index("-o") + 1]
stages = os.path.join(output, "stages")
for index, name in enumerate(("finetune", "distill", "report"), start=1):
    final = os.path.join(stages, f"{{index:02d}}-{{name}}")
    if os.path.exists(final) and not {again}:
        continue
    temporary = os.path.join(stages, f".{{index:02d}}-{{name}}.tmp")
    os.makedirs(temporary, exist_ok=True)
    time.sleep({seconds} if name == "distill" else 0)
    with open(os.path.join(temporary, "stage.json"), "w") as handle:
        json.dump({{"seconds": {seconds}, "made": time.time()}}, handle)
    if os.path.exists(final):
        shutil.rmtree(final)
    os.rename(temporary, final)
for name in ("report.json", "run.json", "recipe.yaml"):
    open(os.path.join(output, name), "w").write("{{}}")
"""


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = "key"

    def code_key(self) -> str:
        return self.key


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def make_runs(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runs]:
    """Runs whose `pocketformer` is the small program above, and whose demo is there."""

    def make(*, seconds: float = 1.0, again: bool = False) -> Runs:
        runs = Runs(repository)  # type: ignore[arg-type]
        program = runs.pocketformer()
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(PROGRAM.format(python=sys.executable, seconds=seconds, again=again))
        program.chmod(0o755)
        demo = runs.folder / "demo"
        (demo / "done.json").write_text('{"made": "today", "seconds": 60, "exit_code": 0, "cores": 2}')
        return runs

    return make


def run_directory(path: Path) -> Path:
    for index, name in enumerate(("finetune", "distill", "prune", "distill", "export"), start=1):
        stage = path / "stages" / f"{index:02d}-{name}"
        stage.mkdir(parents=True)
        (stage / "stage.json").write_text(json.dumps({"seconds": index * 10}))
    for name in ("run.json", "recipe.yaml", "report.json"):
        (path / name).write_text(name)
    return path


def test_the_stage_to_kill_is_the_last_distill(tmp_path: Path) -> None:
    stage, seconds = stage_to_kill(run_directory(tmp_path))
    assert (stage.name, seconds) == ("04-distill", 40.0)
    with pytest.raises(EvidenceError, match="no distill stage"):
        stage_to_kill(tmp_path / "nothing")


def test_a_copy_stands_where_the_run_stood(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run")
    kept = copy_until(run, tmp_path / "copy", run / "stages" / "04-distill")
    assert [path.name for path in kept] == ["01-finetune", "02-distill", "03-prune"]
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == ["recipe.yaml", "run.json", "stages"]
    assert sorted(p.name for p in (tmp_path / "copy" / "stages").iterdir()) == [p.name for p in kept]


def test_resume_kills_in_the_middle_of_a_stage(make_runs: Callable[..., Runs]) -> None:
    runs = make_runs(seconds=1.0)
    resumed = runs.resume()
    assert resumed.details["stage"] == "02-distill"
    assert resumed.details["kept"] == ["01-finetune"]
    assert 0.4 <= resumed.details["killed_after_s"] < 1.0
    assert (resumed.output / "stages" / "03-report" / "stage.json").is_file()


def test_resume_notices_that_finished_stages_were_made_again(make_runs: Callable[..., Runs]) -> None:
    with pytest.raises(EvidenceError, match="made finished stages again: 01-finetune"):
        make_runs(again=True).resume()


def test_resume_notices_a_run_that_ended_before_it_was_killed(
    make_runs: Callable[..., Runs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evidence.runs._KILL_AFTER", 3.0)
    with pytest.raises(EvidenceError, match="ended by itself"):
        make_runs(seconds=0.5).resume()


def test_a_run_that_fails_shows_the_end_of_its_log(make_runs: Callable[..., Runs]) -> None:
    runs = make_runs()
    runs.pocketformer().write_text(f"#!{sys.executable}\nraise SystemExit('no space left')\n")
    with pytest.raises(EvidenceError, match=r"sms: .*exit code 1: no space left"):
        runs.sms()


def test_the_test_file_comes_from_the_resolved_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("data: {test: /data/test.csv, text_column: question}\n")
    run = Finished(output=tmp_path, details={})
    assert run.test_file() == (Path("/data/test.csv"), "question")
