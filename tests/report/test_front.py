from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pocketformer.report.front import mark_front, non_dominated
from pocketformer.report.schema import ParetoPoint

_COSTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12)


def test_a_known_front() -> None:
    assert non_dominated([(1, 3), (2, 2), (3, 1), (3, 3), (2, 2)]) == [True, True, True, False, True]


@given(_COSTS)
def test_the_front_beats_all_others_and_none_of_its_own(costs: list[tuple[int, int]]) -> None:
    flags = non_dominated(costs)
    front = [c for c, on in zip(costs, flags, strict=True) if on]
    assert bool(front) == bool(costs)
    for cost, on in zip(costs, flags, strict=True):
        beaten = any(o[0] <= cost[0] and o[1] <= cost[1] and o != cost for o in costs)
        assert on is not beaten


def test_metric_counts_upwards() -> None:
    def point(metric: float, size: float) -> ParetoPoint:
        return ParetoPoint(name="p", metric=metric, file_mb=size, latency_ms=1, on_front=False)

    assert [p.on_front for p in mark_front([point(0.9, 5), point(0.8, 5), point(0.7, 1)])] == [
        True,
        False,
        True,
    ]
