from __future__ import annotations

import gc
import time

import pytest

from pocketformer.runtime.errors import InputError
from pocketformer.runtime.timing import measure_interleaved


def test_order_of_calls() -> None:
    log: list[str] = []
    samples = measure_interleaved(
        {name: lambda turn, name=name: log.append(f"{name}{turn}") for name in "abc"},
        warmup=1,
        rounds=3,
        warm_for_s=0,
    )
    # Warm-up, then every candidate twice (untimed, timed), each round starting one further.
    assert "".join(log) == "a0b0c0" + "a0a0b0b0c0c0" + "b1b1c1c1a1a1" + "c2c2a2a2b2b2"
    assert {name: len(values) for name, values in samples.items()} == {"a": 3, "b": 3, "c": 3}


def test_times_are_those_of_the_second_call() -> None:
    pauses = iter([0.03, 0.0] * 4)
    samples = measure_interleaved({"a": lambda _: time.sleep(next(pauses))}, warmup=0, rounds=4)
    assert min(samples["a"]) < 0.02
    calls = {"slow": lambda _: time.sleep(0.02), "fast": lambda _: None}
    slow = measure_interleaved(calls, warmup=0, rounds=3)
    assert min(slow["slow"]) >= 0.02 > min(slow["fast"])


def test_a_fast_candidate_is_called_until_it_is_warm() -> None:
    calls: list[float] = []

    def call(_: int) -> None:
        time.sleep(0.001)
        calls.append(time.perf_counter())

    measure_interleaved({"a": call, "b": lambda _: None}, warmup=0, rounds=1, warm_for_s=0.02)
    assert len(calls) > 2  # more than one untimed call and the timed one
    assert calls[-2] - calls[0] >= 0.015


def test_time_limit_ends_after_whole_rounds() -> None:
    calls = {"a": lambda _: time.sleep(0.01), "b": lambda _: None}
    samples = measure_interleaved(calls, warmup=0, rounds=1000, time_limit_s=0.1)
    assert 1 <= len(samples["a"]) == len(samples["b"]) < 20
    samples = measure_interleaved(calls, warmup=0, rounds=10, time_limit_s=0.0)
    assert len(samples["a"]) == len(samples["b"]) == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_off_and_set_back(enabled: bool) -> None:
    seen: list[bool] = []

    def fail(_: int) -> None:
        seen.append(gc.isenabled())
        if len(seen) == 4:
            raise RuntimeError("enough")

    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(RuntimeError, match="enough"):
            measure_interleaved({"a": fail})
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False] * 4


def test_errors() -> None:
    with pytest.raises(InputError, match="nothing to time"):
        measure_interleaved({})
    for settings in ({"rounds": 0}, {"warmup": -1}):
        with pytest.raises(InputError, match="warmup is"):
            measure_interleaved({"a": lambda _: None}, **settings)
