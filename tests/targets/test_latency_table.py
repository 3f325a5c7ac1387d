"""What blocks cost is known here: latencies are made from known costs, and must be found again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pocketformer.runtime.errors import InputError
from pocketformer.targets.latency_table import (
    SHAPES,
    BlockCosts,
    Curve,
    Grid,
    GridPoint,
    LatencyTable,
    design,
    measure_graphs,
    shapes_within,
    solve,
    with_call_of,
)
from pocketformer.targets.workloads import REAL, Workload

GRID = design(12, 1536)


def cost(heads: int, ffn: int, *, last: bool) -> float:
    """A layer whose attention rises in steps of two heads, which no line through few widths shows."""
    attention = 0.2 * ((heads + 1) // 2)
    return 0.1 * (attention + 0.001 * ffn) if last else 0.5 + attention + 0.001 * ffn


def latencies(grid: Grid, made_of: Callable[..., float] = cost) -> dict[GridPoint, float]:
    """Of all graphs of the grid: 1.5 ms a call, and their layers."""
    heads, ffn = grid.reference
    return {
        point: 1.5 + 2 * made_of(point.heads, point.ffn, last=False) + made_of(heads, ffn, last=True)
        if point.ordinary
        else 1.5 + made_of(point.heads, point.ffn, last=True)
        for point in grid.points()
    }


@pytest.mark.parametrize(("heads", "ffn"), [(12, 1536), (4, 64), (16, 4096), (1, 8), (2, 3072)])
def test_a_grid_reaches_from_the_smallest_to_the_whole_and_names_its_reference(heads: int, ffn: int) -> None:
    grid = design(heads, ffn)
    assert (grid.heads[0], grid.heads[-1]) == (1, heads)
    assert (grid.widths[0], grid.widths[-1]) == (8, ffn)
    assert grid.reference[0] in grid.heads
    assert grid.reference[1] in grid.widths
    assert grid.alone in grid.points()
    assert len(set(grid.points())) == len(grid.points()) <= 16


@pytest.mark.parametrize(("heads", "ffn"), [(0, 64), (4, 7)])
def test_a_layer_too_small_for_a_grid_is_refused(heads: int, ffn: int) -> None:
    with pytest.raises(InputError, match="too small"):
        design(heads, ffn)


def test_known_costs_are_found_again_at_every_measured_width() -> None:
    found = solve(GRID, latencies(GRID))
    for heads in GRID.heads:
        for last_heads in GRID.last_heads:
            layers = [(heads, GRID.reference[1])] * 3 + [(last_heads, GRID.last_widths[0])]
            expected = 1.5 + sum(cost(h, w, last=False) for h, w in layers[:-1])
            expected += cost(*layers[-1], last=True)
            assert found.total_ms(layers) == pytest.approx(expected)


def test_costs_are_straight_between_the_widths_and_beyond_the_last() -> None:
    curve = Curve(((2, 1.0), (4, 3.0)))
    assert [curve.at(width) for width in (0, 1, 2, 3, 4, 6)] == pytest.approx([0, 0.5, 1, 2, 3, 5])


def test_a_wider_block_that_measured_faster_is_noise() -> None:
    measured = latencies(GRID)
    heads = GRID.reference[0]
    middle, wide = GRID.widths[-2:]
    measured[GridPoint(True, heads, middle)] += 5.0
    found = solve(GRID, measured)
    assert found.ffn.at(middle) == pytest.approx(found.ffn.at(wide))
    both = [cost(heads, width, last=False) for width in (middle, wide)]
    assert found.layer_ms + found.attention.at(heads) + found.ffn.at(wide) == pytest.approx(
        (sum(both) + 2.5) / 2
    )


def test_other_tables_change_what_a_call_costs_and_nothing_else() -> None:
    found = solve(GRID, latencies(GRID))
    alone_ms = latencies(GRID)[GRID.alone] + 0.75
    other = with_call_of(found, GRID, alone_ms)
    assert other.total_ms([GRID.reference]) == pytest.approx(alone_ms)
    layers = [(12, 1536), (3, 40)]
    assert other.total_ms(layers) - found.total_ms(layers) == pytest.approx(0.75)


def costs_of(fixed_ms: float) -> BlockCosts:
    curve = Curve(((2, 1.0),))
    return BlockCosts(
        fixed_ms=fixed_ms, layer_ms=1.0, attention=curve, ffn=curve, last_attention=curve, last_ffn=curve
    )


TABLE = LatencyTable(
    costs={"int8-fused": {(1, 8): costs_of(1.0), (1, 16): costs_of(3.0), (8, 128): costs_of(9.0)}}
)


def test_sequences_between_the_measured_are_mixed_and_batches_are_not() -> None:
    at_12 = TABLE.block_costs(Workload(name="1x12", batch=1, sequence=12), "int8-fused")
    assert at_12.fixed_ms == pytest.approx(2.0)
    with pytest.raises(InputError, match="no shape 4 x 16"):
        TABLE.block_costs(Workload(name="4x16", batch=4, sequence=16), "int8-fused")


def test_real_inputs_are_those_of_the_median_length() -> None:
    layers = [(2, 2), (2, 2)]
    assert TABLE.predict(layers, REAL, "int8-fused", lengths=[8, 16, 100]) == pytest.approx(3 + 3 + 2)
    with pytest.raises(InputError, match="lengths"):
        TABLE.predict(layers, REAL, "int8-fused")


def test_a_table_says_what_it_lacks() -> None:
    assert TABLE.precisions == ("int8-fused",)
    with pytest.raises(InputError, match="no precision 'fp16'"):
        TABLE.block_costs(REAL, "fp16", lengths=[8])
    with pytest.raises(InputError, match="without layers"):
        costs_of(1.0).total_ms([])


def test_shapes_that_a_model_cannot_run_are_left_out() -> None:
    assert list(shapes_within(32)) == [(1, 8), (1, 16), (1, 32)]
    assert shapes_within(512) == dict(SHAPES)


def test_every_call_is_timed_on_the_shape_that_was_asked_for() -> None:
    seen: dict[str, list[tuple[int, ...]]] = {"a": [], "b": []}
    calls = {name: (lambda feeds, name=name: seen[name].append(feeds["input_ids"].shape)) for name in seen}
    found = measure_graphs(calls, [[5, 6, 7]], (2, 16), rounds=3)
    assert set(found) == {"a", "b"}
    assert all(ms > 0 for ms in found.values())
    assert all(set(shapes) == {(2, 16)} and len(shapes) >= 6 for shapes in seen.values())
