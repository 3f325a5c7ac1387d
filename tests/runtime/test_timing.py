from __future__ import annotations

import gc
import time

import pytest

from pocketformer.runtime.errors import InputError
from pocketformer.runtime.timing import measure_interleaved


def test_order_of_calls() -> None:
    log: list[str] = []
    samples = measure_interleaved(
        {"a": lambda: log.append("a"), "b": lambda: log.append("b"), "c": lambda: log.append("c")},
        warmup=1,
        rounds=3,
    )
    # Warm-up, then every candidate twice (untimed, timed), each round starting one further.
    assert "".join(log) == "abc" + "aabbcc" + "bbccaa" + "ccaabb"
    assert {name: len(values) for name, values in samples.items()} == {"a": 3, "b": 3, "c": 3}


def test_times_are_those_of_the_second_call() -> None:
    pauses = iter([0.03, 0.0] * 4)
    samples = measure_interleaved({"a": lambda: time.sleep(next(pauses))}, warmup=0, rounds=4)
    assert min(samples["a"]) < 0.02
    slow = measure_interleaved({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, warmup=0, rounds=3)
    assert min(slow["slow"]) >= 0.02 > min(slow["fast"])


def test_time_limit_ends_after_whole_rounds() -> None:
    calls = {"a": lambda: time.sleep(0.01), "b": lambda: None}
    samples = measure_interleaved(calls, warmup=0, rounds=1000, time_limit_s=0.1)
    assert 1 <= len(samples["a"]) == len(samples["b"]) < 20
    samples = measure_interleaved(calls, warmup=0, rounds=10, time_limit_s=0.0)
    assert len(samples["a"]) == len(samples["b"]) == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_off_and_set_back(enabled: bool) -> None:
    seen: list[bool] = []

    def fail() -> None:
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
            measure_interleaved({"a": lambda: None}, **settings)
