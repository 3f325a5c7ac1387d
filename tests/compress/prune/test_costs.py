from __future__ import annotations

import pytest

from pocketformer.compress.prune.costs import BlockCosts, multiply_accumulates

_MEASURED = BlockCosts(
    attention={4: 2.0, 12: 6.0},
    ffn={256: 1.0, 512: 1.5, 1536: 5.5},
    last_attention={12: 1.0},
    last_ffn={1536: 0.25},
    rest=0.5,
)


def test_sizes_between_the_measured_are_interpolated() -> None:
    assert _MEASURED.of_attention(8, last=False) == pytest.approx(4.0)
    assert _MEASURED.of_ffn(384, last=False) == pytest.approx(1.25)
    assert _MEASURED.of_ffn(1024, last=False) == pytest.approx(3.5)


def test_sizes_outside_cost_as_much_as_the_nearest() -> None:
    assert _MEASURED.of_attention(1, last=False) == 2.0
    assert _MEASURED.of_ffn(4096, last=False) == 5.5


def test_the_last_layer_has_its_own() -> None:
    assert _MEASURED.total([12, 12], [1536, 512]) == pytest.approx(0.5 + 6.0 + 5.5 + 1.0 + 0.25)


def test_products_are_counted_as_an_encoder_makes_them() -> None:
    hidden, size, heads, width, tokens = 384, 32, 12, 1536, 128
    costs = multiply_accumulates(hidden=hidden, head_size=size, heads=heads, width=width, tokens=tokens)
    inner = heads * size
    projections, scores = 4 * hidden * inner * tokens, 2 * inner * tokens * tokens
    assert costs.of_attention(heads, last=False) == pytest.approx((projections + scores) / 1e6)
    assert costs.of_ffn(width, last=False) == pytest.approx(2 * hidden * width * tokens / 1e6)
    one = 2 * hidden * inner * tokens + 2 * hidden * inner + 2 * inner * tokens
    assert costs.of_attention(heads, last=True) == pytest.approx(one / 1e6)
    assert costs.of_attention(heads // 2, last=True) == pytest.approx(one / 2e6)


def test_without_the_narrowed_graph_the_last_layer_costs_like_the_others() -> None:
    costs = multiply_accumulates(hidden=8, head_size=4, heads=2, width=16, tokens=5, one_position=False)
    assert costs.total([2, 2], [16, 16]) == pytest.approx(2 * costs.total([2], [16]))
