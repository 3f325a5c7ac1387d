"""The timed part: every worker has its turn in every round, one after another, and only one computes at a time.

What is timed is kept after every round, so that a run that was cut off, or that had a time limit, goes on with the
next round; samples of other models, inputs or code are thrown away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evidence.table import EvidenceError, write_document

from peers.worker_process import Worker

ROUNDS = 10
# Ten rounds of 20 are each of the 200 real texts once; long shapes want fewer calls.
CALLS_A_TURN: Mapping[str, int] = {"real": 20, "1x32": 12, "1x128": 6, "8x128": 3}
# Another process has run since: caches, branch predictors and clock come back in this time.
WARM_FOR_S = 0.03
LIMIT_S = 120.0


@dataclass
class Samples:
    """Seconds of every timed call by setup and workload, in whole rounds, and who failed on the way.

    ``idle``: the share of a core that each worker used while another one was timed. ``settings``: what each worker
    said of how its model was loaded.
    """

    key: str
    rounds: int = 0
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured: str = ""


def kept_samples(path: Path, key: str) -> Samples:
    """What earlier calls timed of just these models; empty samples when there is nothing of the kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        samples = Samples(**content)
    except (OSError, ValueError, TypeError):
        return Samples(key=key)
    return samples if samples.key == key else Samples(key=key)


def take_turns(
    workers: Mapping[str, Worker],
    samples: Samples,
    path: Path,
    *,
    rounds: int = ROUNDS,
    calls: Mapping[str, int] = CALLS_A_TURN,
    time_limit_s: float | None = None,
    limit_s: float = LIMIT_S,
    say: Callable[[str], None] = lambda _: None,
) -> bool:
    """Time loaded workers until ``samples`` holds ``rounds`` rounds, written to ``path`` after each; whether it does.

    A worker that fails, ends or is silent for ``limit_s`` seconds gets an entry in ``errors``, loses its samples and
    leaves the others alone. No new round begins ``time_limit_s`` seconds after the call, nor when nobody is left.
    """
    deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
    while samples.rounds < rounds:
        if deadline is not None and time.monotonic() >= deadline:
            return False
        if not any(name not in samples.errors for name in workers):
            break
        fresh = _one_round(workers, samples, calls, limit_s)
        for name, by_workload in fresh.items():
            kept = samples.seconds.setdefault(name, {})
            for workload, seconds in by_workload.items():
                kept.setdefault(workload, []).extend(seconds)
        for name in samples.errors:
            samples.seconds.pop(name, None)
        samples.rounds += 1
        samples.idle = {n: w.idle_cpu_s / w.idle_s for n, w in workers.items() if w.idle_s > 0}
        samples.measured = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_document(path, asdict(samples))
        say(f"round {samples.rounds} of {rounds}")
    return True


def _one_round(
    workers: Mapping[str, Worker], samples: Samples, calls: Mapping[str, int], limit_s: float
) -> dict[str, dict[str, list[float]]]:
    """Every workload, and in it every worker that has not failed, another one first in every round."""
    names = list(workers)
    first = samples.rounds % len(names)
    order = names[first:] + names[:first]
    fresh: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for workload, count in calls.items():
        for name in order:
            if name in samples.errors:
                continue
            try:
                answer = workers[name].ask(
                    {
                        "do": "time",
                        "workload": workload,
                        "first": samples.rounds * count,
                        "calls": count,
                        "warm_for_s": WARM_FOR_S,
                    },
                    limit_s=limit_s,
                )
                fresh[name][workload] = answer["seconds"]
            except EvidenceError as error:
                samples.errors[name] = f"while timed on {workload}: {error}"
                continue
            workers[name].settle()
    return {name: by_workload for name, by_workload in fresh.items() if name not in samples.errors}
