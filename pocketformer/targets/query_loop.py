"""LoadGen's single-stream and offline scenarios by an own loop, for where MLPerf's LoadGen has no wheel.

Its rules are those of LoadGen (MLPerf inference rules, "Scenarios"; loadgen.cc and results.cc of mlcommons/inference)
as far as they can be seen from the model: what is asked when, for how long, how often, and which latency stands for a
percentile. It is not LoadGen, and its figures say so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import cycle
from time import perf_counter
from typing import Any, Callable

_SEED = 20260101  # any number; the same samples are asked for in every run
_WARM_CALLS = 5


def run_query_loop(
    predict: Callable[[list[int]], object],
    sample_count: int,
    scenario: str,
    *,
    batch_size: int,
    min_duration_s: float,
    min_query_count: int,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, Any]:
    """Ask ``predict`` for samples (indices below ``sample_count``) as LoadGen would; ``run_loadgen`` says the rest.

    "single_stream": a sample drawn at random, the next when it is answered. "offline": all samples in one random order,
    as often as it takes, handed on ``batch_size`` at a time. Both go on for at least ``min_duration_s`` and
    ``min_query_count`` samples. ``clock`` gives seconds. Returns ``latency_ms`` {p50, p90, p99} over all queries
    (None in offline), ``samples_per_s``, ``queries``, and ``valid`` None: LoadGen's own check has no part in it.
    """
    stream = scenario == "single_stream"
    order = _drawn(sample_count) if stream else _passes(sample_count)
    size = 1 if stream else batch_size
    for _ in range(_WARM_CALLS):
        predict([position % sample_count for position in range(size)])
    latencies: list[float] = []
    answered = 0
    begin = now = clock()
    while answered < min_query_count or now - begin < min_duration_s:
        batch = [next(order) for _ in range(size)]
        asked = clock()
        predict(batch)
        now = clock()
        latencies.append(now - asked)
        answered += size
    return {
        "latency_ms": _percentiles(latencies) if stream else None,
        "samples_per_s": answered / max(now - begin, 1e-9),
        "queries": answered,
        "valid": None,
    }


def _drawn(count: int) -> Iterator[int]:
    """Samples with replacement, as LoadGen draws those of single stream."""
    generator = random.Random(_SEED)
    while True:
        yield generator.randrange(count)


def _passes(count: int) -> Iterator[int]:
    """All samples in one random order, again and again, as LoadGen repeats them offline."""
    numbers = list(range(count))
    random.Random(_SEED).shuffle(numbers)
    return cycle(numbers)


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """The latency at the place count x share of the sorted ones, which is LoadGen's percentile; ms."""
    ranked = sorted(seconds)
    return {f"p{rank}": ranked[len(ranked) * rank // 100] * 1e3 for rank in (50, 90, 99)}
