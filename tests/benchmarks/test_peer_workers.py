"""The parent's side of the workers, with a real small process at the other end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evidence.table import EvidenceError
from peers.turns import CALLS_A_TURN, Samples, kept_samples, take_turns
from peers.worker_process import Worker

PROGRAM = """
import json, sys, time
way, log = sys.argv[1], sys.argv[2]
for line in sys.stdin:
    order = json.loads(line)
    if order["do"] == "stop":
        break
    with open(log, "a") as file:
        file.write(json.dumps([way, order.get("workload"), order.get("first")]) + "\\n")
    if way == "crash":
        print("a library's last words", file=sys.stderr)
        sys.exit(3)
    if way == "silent":
        time.sleep(600)
    if way == "garbage":
        print("Loading model...", flush=True)
    elif way == "refuse":
        print(json.dumps({"error": "ValueError: no such input"}), flush=True)
    else:
        print(json.dumps({"seconds": [0.5] * order.get("calls", 1)}), flush=True)
"""
CALLS = {"real": 2, "1x32": 1}


class Workers:
    """Starts workers and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "program.py").write_text(PROGRAM)
        self.log = folder / "orders.txt"
        self.made: list[Worker] = []

    def __call__(self, way: str) -> Worker:
        argv = [sys.executable, str(self._folder / "program.py"), way, str(self.log)]
        errors = self._folder / f"{way}.log"
        self.made.append(Worker(way, argv, variables={}, folder=self._folder, log=errors))
        return self.made[-1]

    def orders(self) -> list[list[Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    yield made
    for worker in made.made:
        worker.stop()


def test_a_worker_answers_and_ends_when_it_is_told_to(workers: Workers) -> None:
    worker = workers("good")
    assert worker.ask({"do": "time", "calls": 3}, limit_s=60) == {"seconds": [0.5] * 3}
    worker.settle()
    worker.stop()
    with pytest.raises(EvidenceError):
        worker.ask({"do": "time"}, limit_s=60)


@pytest.mark.parametrize(
    ("way", "limit_s", "message"),
    [
        ("crash", 60.0, "exit code 3.*a library's last words"),
        ("silent", 0.2, "no answer within"),
        ("garbage", 60.0, "answered no JSON"),
        ("refuse", 60.0, "^ValueError: no such input$"),
    ],
)
def test_a_worker_that_fails_says_how(workers: Workers, way: str, limit_s: float, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        workers(way).ask({"do": "load"}, limit_s=limit_s)


def test_what_a_worker_computes_while_others_have_their_turn_is_added_up(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = workers("good")
    worker.ask({"do": "time"}, limit_s=60)
    # Threads that still spin, then rest; a fifth of a second more until it is asked again.
    monkeypatch.setattr("peers.worker_process._SETTLE_LIMIT_S", 600.0)
    readings = iter([1.0, 1.4, 1.5, 1.5, 1.7])
    monkeypatch.setattr(worker, "_cpu_s", lambda: next(readings))
    worker.settle()
    worker.ask({"do": "time"}, limit_s=60)
    assert worker.idle_cpu_s == pytest.approx(0.2)
    assert worker.idle_s > 0


def test_each_has_its_turn_and_another_one_begins_in_each_round(workers: Workers, tmp_path: Path) -> None:
    pair = {"a": workers("good"), "b": workers("also-good")}
    samples, path = Samples(key="k"), tmp_path / "samples.json"
    assert take_turns(pair, samples, path, rounds=2, calls=CALLS)
    assert workers.orders() == [
        ["good", "real", 0],
        ["also-good", "real", 0],
        ["good", "1x32", 0],
        ["also-good", "1x32", 0],
        ["also-good", "real", 2],
        ["good", "real", 2],
        ["also-good", "1x32", 1],
        ["good", "1x32", 1],
    ]
    assert samples.seconds["a"] == {"real": [0.5] * 4, "1x32": [0.5] * 2}
    assert set(samples.idle) == {"a", "b"}


@pytest.mark.parametrize("way", ["crash", "silent", "refuse"])
def test_one_that_fails_leaves_the_others_alone(workers: Workers, tmp_path: Path, way: str) -> None:
    pair = {"good": workers("good"), "bad": workers(way)}
    pair["good"].ask({"do": "load"}, limit_s=60)
    samples, path = Samples(key="k"), tmp_path / "samples.json"
    limit_s = 5.0 if way == "silent" else 60.0
    assert take_turns(pair, samples, path, rounds=2, calls=CALLS, limit_s=limit_s)
    assert list(samples.errors) == ["bad"]
    assert samples.errors["bad"].startswith("while timed on real: ")
    assert list(samples.seconds) == ["good"]
    assert len(samples.seconds["good"]["real"]) == 4
    assert len([order for order in workers.orders() if order[0] == way]) <= 1


def test_what_was_timed_is_kept_and_gone_on_with(workers: Workers, tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    first = Samples(key="k")
    assert take_turns({"a": workers("good")}, first, path, rounds=1, calls=CALLS)
    again = kept_samples(path, "k")
    assert again == first
    assert take_turns({"a": workers("good")}, again, path, rounds=3, calls=CALLS)
    assert [order[2] for order in workers.orders() if order[1] == "real"] == [0, 2, 4]
    assert kept_samples(path, "k").rounds == 3
    assert kept_samples(path, "other models").rounds == 0


def test_no_round_begins_after_the_time_limit(workers: Workers, tmp_path: Path) -> None:
    samples, path = Samples(key="k"), tmp_path / "samples.json"
    assert not take_turns({"a": workers("good")}, samples, path, rounds=5, calls=CALLS, time_limit_s=0.0)
    assert samples.rounds == 0
    assert not path.exists()


def test_a_damaged_file_of_samples_is_no_reason_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    for damaged in ("{", "[]", '{"key": "k", "unknown": 1}'):
        path.write_text(damaged)
        assert kept_samples(path, "k") == Samples(key="k")


def test_the_turns_cover_every_workload() -> None:
    from pocketformer.targets.workloads import WORKLOADS

    assert list(CALLS_A_TURN) == [workload.name for workload in WORKLOADS]
