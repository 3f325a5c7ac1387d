"""The rows about ``compress --search``, which makes a chain of models for a budget."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from evidence.runs import Finished
from evidence.search import SearchRuns, drop_on_test, stage_of
from evidence.table import EvidenceError, Measured, Row

_DROPS = (0.005, 0.01, 0.02, 0.04)
_SHARES = (3, 5, 10)
_WORKLOAD = "8x128"
_ROUNDING = 1e-9


def minutes(runs: SearchRuns) -> Measured:
    """How long the whole command took: the search, then export, quantization, bundle and measuring."""
    run = runs.search()
    searched = stage_of(run, "search")
    how = (
        f"exit code {run.details['exit_code']}; the search alone made {searched['metrics']['trials']:.0f} models in "
        f"{searched['seconds'] / 60:.1f} minutes"
    )
    return Measured(value=run.details["seconds"] / 60, how=how)


def drop(runs: SearchRuns) -> Measured:
    """How much accuracy the bundle that it found loses on test."""
    return drop_on_test(runs.search())


def answers(runs: SearchRuns) -> Measured:
    """How many of twelve budgets the models of one search answer rightly.

    Each is asked of ``pocketformer choose``. Exit code 0 is right: its report measured on test and on this machine that
    the budget is kept. Exit code 3 is right when no model of the search keeps the budget by the search's own figures,
    and the one delivered is the fastest of those that keep the drop, or where none does the one that drops least.
    """
    run = runs.search()
    trials = stage_of(run, "search")["details"]["trials"]
    eager = _eager_ms(run)
    right, said = 0, []
    for drop, share in itertools.product(_DROPS, _SHARES):
        limit = eager / share
        answer = runs.answer(drop, limit)
        code = answer.details["exit_code"]
        good = code == 0 or nearest_was_taken(trials, _taken(answer), drop=drop, limit_ms=limit)
        right += good
        said.append(f"{drop * 100:g}/{share}: {'kept' if code == 0 else 'nearest' if good else 'wrong'}")
    return Measured(
        value=float(right), how=f"PyTorch eager {eager:.0f} ms; drop in points/share: {', '.join(said)}"
    )


def nearest_was_taken(
    trials: Sequence[Mapping[str, Any]], taken: int, *, drop: float, limit_ms: float
) -> bool:
    """Whether exit code 3 and the model ``taken`` are the right answer to a budget, by the figures of the trials."""
    judged = {t["number"]: _judged(t) for t in trials}
    times = {t["number"]: t["latency_ms"][_WORKLOAD] for t in trials}
    keeping = [number for number, value in judged.items() if value <= drop + _ROUNDING]
    if any(times[number] <= limit_ms for number in keeping):
        return False
    if keeping:
        return times[taken] == min(times[number] for number in keeping)
    return judged[taken] == min(judged.values())


def _judged(trial: Mapping[str, Any]) -> float:
    smoothed = trial["smoothed_drop"]
    return float(trial["drop"] if smoothed is None else smoothed)


def _eager_ms(run: Finished) -> float:
    """p50 of the teacher in PyTorch eager on 8 x 128, from the report of the search's run."""
    eager = run.device.baselines.torch_eager
    if eager is None or _WORKLOAD not in eager.latency_ms:
        raise EvidenceError(f"the report has no latency of the teacher on {_WORKLOAD}")
    return float(eager.latency_ms[_WORKLOAD].p50)


def _taken(answer: Finished) -> int:
    """The number of the model that an answer delivers."""
    return int(stage_of(answer, "choose")["config"]["model"])


ROWS: tuple[Row[SearchRuns], ...] = (
    Row(
        id="search-minutes",
        what="`--search` to a budget of 1.0 point on 2 cores (aim: 20)",
        comparator="<",
        required=45,
        unit="minutes",
        measure=minutes,
    ),
    Row(
        id="search-drop",
        what="Drop of what it found on test",
        comparator="<=",
        required=0.01,
        unit="fraction",
        measure=drop,
    ),
    Row(
        id="front-answers",
        what="Budgets of twelve (drop 0.5, 1, 2, 4 points; 8x128 a third, a fifth, a tenth of eager) answered rightly",
        comparator=">=",
        required=12,
        unit="budgets",
        measure=answers,
    ),
)
