"""Time several candidates side by side, so that what the machine does meanwhile falls on all alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Optional

from pocketformer.runtime.errors import InputError

# A model of a hundred megabytes that has just run leaves nothing of a small one in the caches, and one short call does
# not bring all of it back: the second call is still slower than those of the small model running by itself.
WARM_FOR_S = 0.005


def measure_interleaved(
    calls: Mapping[str, Callable[[int], object]],
    *,
    warmup: int = 3,
    rounds: int = 50,
    warm_for_s: float = WARM_FOR_S,
    time_limit_s: Optional[float] = None,
) -> dict[str, list[float]]:
    """Seconds of every timed call, by candidate: ``rounds`` samples each, in the order they were taken.

    A round times every candidate once, and starts one candidate further than the round before; candidates are
    called with the number of the round. Each timed call comes directly after untimed calls of the same candidate,
    one at least and as many as ``warm_for_s`` seconds hold, so that caches and branch predictors hold what is its
    own: these are latencies of a warm model that is called again and again, not of one called once in a while.
    The clock is ``time.perf_counter``; garbage collection is off while timing and set back afterwards. With
    ``time_limit_s``, no new round begins after that many seconds (warm-up included), and at least one round is
    always made.

    Raises ``InputError`` when there is no candidate, or for a ``warmup`` below 0 or ``rounds`` below 1;
    what a candidate raises goes through.
    """
    if not calls:
        raise InputError("there is nothing to time", hint="Give at least one candidate.")
    if warmup < 0 or rounds < 1:
        raise InputError(
            f"warmup is {warmup} and rounds {rounds}",
            hint="Use a warmup of at least 0, rounds of at least 1.",
        )
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    deadline = None if time_limit_s is None else perf_counter() + time_limit_s
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for name in names:
            for turn in range(warmup):
                calls[name](turn)
        for turn in range(rounds):
            if turn and deadline is not None and perf_counter() >= deadline:
                break
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                call = calls[name]
                warm = perf_counter() + warm_for_s
                call(turn)
                while perf_counter() < warm:
                    call(turn)
                start = perf_counter()
                call(turn)
                samples[name].append(perf_counter() - start)
    finally:
        if collecting:
            gc.enable()
    return samples
