"""Times candidates on workloads, interleaved in one process, so that drift and neighbours hit all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pocketformer.runtime.errors import InputError
from pocketformer.runtime.results import LatencySummary
from pocketformer.runtime.timing import WARM_FOR_S, measure_interleaved

Input = TypeVar("Input")


@dataclass(frozen=True)
class WorkloadTiming:
    """One candidate on one workload: every timed call in seconds, in order, and their percentiles."""

    seconds: tuple[float, ...]
    latency: LatencySummary


def measure(
    candidates: Mapping[str, Callable[[Input], object]],
    inputs_by_workload: Mapping[str, Sequence[Input]],
    *,
    rounds: int = 50,
    warmup: int = 4,
    warm_for_s: float = WARM_FOR_S,
    time_limit_s: float | None = None,
    on_workload: Callable[[str], None] | None = None,
) -> dict[str, dict[str, WorkloadTiming]]:
    """Time every candidate on every workload; the result is indexed by candidate, then workload.

    Within a workload all candidates take turns (see ``measure_interleaved``) and go through the same inputs
    in the same order, beginning again when these are used up: ``rounds`` calls each, so give at least as many
    rounds as there are inputs for each of them to count. ``time_limit_s`` (seconds) holds for each workload.
    An input is what a candidate takes: feeds of arrays for a model, a text for a tokenizer or a whole
    pipeline. ``on_workload`` hears the name of each workload before it is measured.
    ``InputError`` without candidates or without inputs.
    """
    if not candidates:
        raise InputError("there are no candidates to measure", hint="Give at least one.")
    timings: dict[str, dict[str, WorkloadTiming]] = {name: {} for name in candidates}
    for workload, inputs in inputs_by_workload.items():
        if not inputs:
            raise InputError(f"workload {workload!r} has no inputs", hint="Give at least one.")
        if on_workload is not None:
            on_workload(workload)
        calls = {name: _cycling(candidate, inputs) for name, candidate in candidates.items()}
        samples = measure_interleaved(
            calls, warmup=warmup, rounds=rounds, warm_for_s=warm_for_s, time_limit_s=time_limit_s
        )
        for name, seconds in samples.items():
            timings[name][workload] = WorkloadTiming(
                seconds=tuple(seconds), latency=LatencySummary.from_seconds(seconds)
            )
    return timings


def _cycling(candidate: Callable[[Input], object], inputs: Sequence[Input]) -> Callable[[int], object]:
    """A call that takes the next input in every round, and the first again after the last."""
    return lambda turn: candidate(inputs[turn % len(inputs)])
