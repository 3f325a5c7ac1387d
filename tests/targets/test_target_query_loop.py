"""Our own loop keeps LoadGen's rules: against a clock that only the model moves, and against LoadGen itself."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from pocketformer.runtime.errors import InputError
from pocketformer.targets import loadgen
from pocketformer.targets.loadgen import run_loadgen, run_scenario
from pocketformer.targets.query_loop import run_query_loop
from pocketformer.targets.scenarios import drive_scenarios

WARM = 5  # calls before the clock starts


class Played:
    """A model and a clock: each call takes as long as ``seconds`` says of it, and nothing else takes time."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.now = 100.0
        self.asked: list[list[int]] = []

    def predict(self, indices: list[int]) -> None:
        turn = len(self.asked) - WARM
        self.now += self.seconds[turn % len(self.seconds)] if turn >= 0 else 1000.0
        self.asked.append(indices)

    def run(self, scenario: str, samples: int = 20, **options: Any) -> dict[str, Any]:
        settings = {"batch_size": 8, "min_duration_s": 1.0, "min_query_count": 100, **options}
        return run_query_loop(self.predict, samples, scenario, clock=lambda: self.now, **settings)


def test_single_stream_percentiles_over_all_queries() -> None:
    # 1 to 100 ms in an order that is not sorted: 37 and 101 have no common divisor.
    played = Played(*(1e-3 * (37 * turn % 101) for turn in range(1, 101)))
    told = played.run("single_stream")
    assert told["queries"] == 100
    # LoadGen takes the latency at the place count x share: the 51st, 91st and 100th of a hundred.
    assert told["latency_ms"] == pytest.approx({"p50": 51.0, "p90": 91.0, "p99": 100.0})
    assert told["samples_per_s"] == pytest.approx(100 / 5.05)
    assert told["valid"] is None
    assert all(len(indices) == 1 for indices in played.asked)


@pytest.mark.parametrize(
    ("seconds", "options", "queries"),
    [
        (0.5, {}, 100),  # slow: the count decides
        (0.001, {}, 1000),  # fast: the duration does
        (0.001, {"min_duration_s": 0.0}, 100),
        (0.25, {"min_query_count": 1, "min_duration_s": 1.0}, 4),
        (2.0, {"min_query_count": 1, "min_duration_s": 1.0}, 1),
    ],
)
def test_single_stream_lasts_as_long_and_asks_as_often_as_it_must(
    seconds: float, options: dict[str, Any], queries: int
) -> None:
    played = Played(seconds)
    told = played.run("single_stream", **options)
    assert abs(told["queries"] - queries) <= 1  # a thousand times 0.001 is not 1 in floating point
    assert len(played.asked) == WARM + told["queries"]
    assert played.now - 100.0 - WARM * 1000.0 >= options.get("min_duration_s", 1.0)


def test_offline_hands_all_samples_on_in_batches() -> None:
    played = Played(0.05)
    told = played.run("offline", samples=20, batch_size=8)
    asked = played.asked[WARM:]
    assert {len(indices) for indices in asked} == {8}
    assert told["queries"] == 8 * len(asked) >= 100
    assert told["latency_ms"] is None
    assert told["samples_per_s"] == pytest.approx(8 / 0.05)
    order = [index for indices in asked for index in indices]
    assert sorted(order[:20]) == list(range(20)) != order[:20]
    assert order[20:40] == order[:20]


def test_the_order_is_random_and_always_the_same() -> None:
    first, second = Played(0.01), Played(0.01)
    first.run("single_stream")
    second.run("single_stream")
    assert first.asked == second.asked
    counts = Counter(indices[0] for indices in first.asked[WARM:])
    assert set(counts) <= set(range(20))
    assert len(counts) > 15
    assert len(set(counts.values())) > 1, "drawn with replacement"


def test_loadgen_asks_in_the_same_way() -> None:
    """What the loop copies can be seen in LoadGen: draws with replacement, and one permutation again and again."""
    for scenario in ("single_stream", "offline"):
        asked: list[list[int]] = []

        def predict(indices: list[int], asked: list[list[int]] = asked) -> None:
            asked.append(list(indices))
            time.sleep(0.0005 * len(indices))

        told = run_loadgen(predict, 20, scenario, batch_size=8, min_duration_s=0.1)  # type: ignore[arg-type]
        order = [index for indices in asked for index in indices][-told["queries"] :]
        if scenario == "offline":
            assert sorted(order[:20]) == list(range(20)) != order[:20]
            assert order[20:40] == order[:20]
        else:
            assert sorted(order[:20]) != list(range(20))


def test_what_drives_where_loadgen_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    rows = [[1, 2], [1, 2, 3, 4], [1]]
    with_it = drive_scenarios(asked.append, rows, 0, min_duration_s=0.02, batch_size=4)
    assert with_it["driver"] == "mlcommons-loadgen"
    assert with_it["version"]
    assert with_it["single_stream"]["valid"] is not None
    monkeypatch.setattr(loadgen, "_library", lambda: None)
    without = drive_scenarios(asked.append, rows, 0, min_duration_s=0.02, batch_size=4)
    assert (without["driver"], without["version"]) == ("own loop", None)
    assert without["single_stream"]["queries"] >= 100
    assert without["offline"]["queries"] >= 100
    assert without["offline"]["valid"] is None
    assert with_it.keys() == without.keys()
    assert {1, 4} <= {feeds["input_ids"].shape[0] for feeds in asked} <= {1, 2, 3, 4}
    batch = next(feeds for feeds in asked if feeds["input_ids"].shape == (4, 4))
    assert (batch["attention_mask"].sum(axis=1) >= 1).all()
    with pytest.raises(InputError):
        run_scenario(lambda _: None, 0, "offline")


def test_a_failure_goes_through() -> None:
    def fails(_: list[int]) -> None:
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError, match="the model broke"):
        run_query_loop(fails, 5, "offline", batch_size=2, min_duration_s=0.1, min_query_count=1)
