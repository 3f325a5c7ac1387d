"""A search that several processes share: real ones, on one SQLite file, one of them killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from pocketformer.pipeline.recipe import BudgetSection, Recipe
from pocketformer.pipeline.rundir import read_run
from pocketformer.pipeline.search.sharing import Board, Job, Sharing, likely_polishes
from pocketformer.pipeline.search.trials import Rules, Trial
from pocketformer.runtime.errors import InputError, PocketformerError
from pocketformer.runtime.model import load

STATES = optuna.trial.TrialState

WORKER = """
import sys
from pathlib import Path
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.run import run
from pocketformer.pipeline.search.sharing import Sharing
sharing = Sharing(store=sys.argv[2], heartbeat_s=1, grace_s=10, poll_s=0.1)
result = run(Recipe.from_file(Path(sys.argv[1])), sys.argv[3], sharing=sharing)
print(result.artefacts.model)
"""


def _trial(number: int, drop: float = 0.0, **fields: Any) -> Trial:
    values: dict[str, Any] = {
        "name": str(number), "depth": number, "polished": False, "vocabulary": 1.0, "layers": ((2, 8),),
        "metric": 0.9 - drop, "drop": drop, "divergence": drop,
        "latency_ms": {"real": 4.0 / number}, "speedup": {"real": 2.0},
        "file_mb": 5.0, "parameters": 1000, "candidate": "dynamic-plain", "seconds": 1.0,
    }  # fmt: skip
    return Trial(number=number, **{**values, **fields})


@pytest.fixture
def board(tmp_path: Path) -> Board:
    board = Board(Sharing(store=str(tmp_path / "study.db"), attempts=2), "test")
    assert not board.open(make=False)
    assert board.open(make=True)
    return board


def test_what_is_offered_twice_is_done_once(board: Board) -> None:
    job, other, made = Job(kind="stroke", number=1, source=0), Job(kind="polish", number=2, source=1), []
    assert not board.work(lambda _: None)
    board.offer(job)
    board.offer(other)
    board.offer(job)
    assert board.is_open(job)
    while board.work(lambda claimed: made.append(claimed) or _trial(1)):  # type: ignore[func-returns-value]
        pass
    board.offer(job)
    assert (made, board.is_done(job), board.is_open(job)) == ([job, other], True, False)
    assert not board.work(lambda _: None)


def test_what_is_withdrawn_can_be_offered_again(board: Board) -> None:
    job = Job(kind="polish", number=3, source=2, depth=2)
    board.offer(job)
    assert board.work(lambda _: None)
    assert not board.is_open(job)
    assert not board.is_done(job)
    board.offer(job)
    assert board.work(lambda _: _trial(2))
    assert board.is_done(job)


def test_what_fails_again_and_again_ends_the_search(board: Board) -> None:
    job = Job(kind="stroke", number=1, source=0, depth=1)

    def fail(_: Job) -> Trial:
        raise PocketformerError("no such layer")

    for _ in range(2):
        board.offer(job)
        with pytest.raises(PocketformerError, match="no such layer"):
            board.work(fail)
    with pytest.raises(PocketformerError, match="trial 1 failed 2 times: no such layer"):
        board.offer(job)


def test_a_worker_that_was_given_up_does_no_harm(board: Board, tmp_path: Path) -> None:
    """It was paused for longer than its grace; another one has its trial by now."""
    job = Job(kind="stroke", number=1, source=0, depth=1)
    board.offer(job)
    study = optuna.load_study(study_name="test", storage=f"sqlite:///{tmp_path / 'study.db'}")

    def paused(_: Job) -> Trial:
        running = study.get_trials(states=(STATES.RUNNING,))[0]
        study.tell(running.number, state=STATES.FAIL)
        board.offer(job)
        return _trial(1)

    assert board.work(paused)
    assert not board.is_done(job)
    assert board.work(lambda _: _trial(1))
    assert [t.state for t in study.get_trials()] == [STATES.FAIL, STATES.COMPLETE]


def test_a_store_that_cannot_be_opened_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        Board(Sharing(store=f"sqlite:///{tmp_path}/none/secret.db"), "test")
    assert "cannot be opened" in str(error.value)
    assert "secret" not in str(error.value)


def test_what_would_be_trained_next_if_each_failed() -> None:
    """As the search goes on alone: the fastest that may come back first, then what is slower."""
    rules, chain = Rules(BudgetSection(max_drop=0.02)), [_trial(1, 0.01), _trial(2, 0.03), _trial(3, 0.04)]

    def hope(trial: Trial) -> float:
        return min(0.03, 0.6 * trial.judged_drop)

    assert [t.number for t in likely_polishes(chain, rules, hope, 5)] == [3, 2, 1]
    assert [t.number for t in likely_polishes(chain, rules, hope, 2)] == [3, 2]
    done = [*chain, replace(chain[2], number=4, polished=True, drop=0.01)]
    assert likely_polishes(done, rules, hope, 5) == []


def _entries(store: Path) -> list[Any]:
    address = f"sqlite:///{store}"
    # Who opens a new database makes its tables: that is left to the workers, who have done so when a trial is there.
    begun = (store.parent / "out" / "search").is_dir()
    names = optuna.get_all_study_names(address) if begun else []
    return optuna.load_study(study_name=names[0], storage=address).get_trials() if names else []


def _kill_one_at_work(store: Path, workers: list[subprocess.Popen[str]]) -> tuple[subprocess.Popen[str], int]:
    """Kill a worker in the middle of a trial, once one trial is done; the worker, and the entry that it was at."""
    while True:
        assert all(worker.poll() is None for worker in workers), workers[0].communicate()[1]
        time.sleep(0.05)
        entries = _entries(store)
        at_work = [e for e in entries if e.state == STATES.RUNNING and "worker" in e.user_attrs]
        if not at_work or not any(entry.state == STATES.COMPLETE for entry in entries):
            continue
        (entry, *_) = at_work
        (victim,) = (w for w in workers if w.pid == int(entry.user_attrs["worker"].split()[1]))
        victim.send_signal(signal.SIGSTOP)
        if _entries(store)[entry.number].state == STATES.RUNNING:
            victim.kill()
            victim.wait()
            return victim, entry.number
        victim.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_search_of_two_workers_ends_though_one_is_killed(tiny_recipe: Recipe, tmp_path: Path) -> None:
    brief = {"augmentation": {"copies": 1}, "training": {"epochs": 2, "batch_size": 8}}
    search = {
        "strokes": [{"heads": 2, "ffn": 32}, {"layers": 2, "ffn": 16}],
        "recovery": brief,
        "polish": brief,
        "vocabularies": [0.9],
        "candidates": ["dynamic-plain-reduced"],
        "rounds": 1,
        "polished": 2,
    }
    values = tiny_recipe.model_dump(mode="json", exclude={"steps", "choices"})
    delivery = ["export", {"quantize": {"candidates": ["fp32"], "rounds": 1}}, {"bundle": {"golden": 2}}]
    recipe = Recipe.from_mapping(
        {**values, "budget": {"max_drop": 1.0}, "steps": [{"search": search}, *delivery]}
    )
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    store, out = tmp_path / "study.db", tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", WORKER, str(tmp_path / "recipe.yaml"), str(store), str(out)]
    workers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        killed, lost = _kill_one_at_work(store, workers)
        survivor = next(worker for worker in workers if worker is not killed)
        told, complaints = survivor.communicate(timeout=600)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            for pipe in (worker.stdout, worker.stderr):
                if pipe is not None:
                    pipe.close()
    assert survivor.returncode == 0, complaints
    assert (out / told.strip().rpartition("/out/")[2]).is_dir()

    entries = _entries(store)
    states = Counter(entry.state for entry in entries)
    assert states[STATES.RUNNING] == states[STATES.WAITING] == 0
    assert entries[lost].state == STATES.FAIL
    done = [entry.user_attrs["job"]["number"] for entry in entries if entry.state == STATES.COMPLETE]
    assert len(done) == len(set(done))
    assert entries[lost].user_attrs["job"]["number"] in done
    run = read_run(out)
    assert run is not None
    assert [stage["name"] for stage in run["stages"]] == ["search", "export", "quantize", "bundle"]
    trials = run["stages"][0]["details"]["trials"]
    assert sorted(trial["number"] for trial in trials) == sorted(done)
    assert [(t["depth"], t["polished"]) for t in trials[:2]] == [(1, False), (2, False)]
    assert any(trial["polished"] for trial in trials)
    assert load(out / "bundles" / "cpu").predict(["where is paris ?"])[0].label
    assert not [p.name for p in (out / "stages").iterdir() if p.name.startswith(".")]
    assert not [p.name for p in (out / "search").iterdir() if p.name.startswith(".")]
