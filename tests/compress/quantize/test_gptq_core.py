from __future__ import annotations

import numpy as np
import pytest

from pocketformer.compress.quantize.gptq_core import damped, gptq, refitted_scales, relative_cost


def _setting(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))  # correlated, as activations are
    return rng.normal(size=(6, 4)), inputs.T @ inputs / 50


def _whole(_: int, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    codes = np.clip(np.rint(2 * row) + 8, 0, 15)
    return codes.astype(np.uint8), (codes - 8) / 2


@pytest.mark.parametrize("seed", range(3))
def test_each_row_is_rounded_from_where_the_cost_is_least_given_the_rows_before(seed: int) -> None:
    """Brute force: after each row, the others are put to the exact minimum of tr(D^T H D) by solving for them."""
    weights, moments = _setting(seed)
    raised = damped(moments, 0.01)
    order = np.argsort(-np.diag(moments))
    expected = np.zeros(weights.shape, np.uint8)
    fixed = np.zeros(weights.shape)
    for place in range(6):
        done, rest = order[:place], order[place:]
        moved = weights[rest] + np.linalg.solve(
            raised[np.ix_(rest, rest)], raised[np.ix_(rest, done)] @ (weights[done] - fixed[done])
        )
        expected[order[place]], fixed[order[place]] = _whole(0, moved[0])
    assert (gptq(weights, moments, _whole, damping=0.01) == expected).all()


def test_it_costs_less_than_taking_the_nearest() -> None:
    costs = []
    for seed in range(10):
        weights, moments = _setting(seed)
        compensated = (gptq(weights, moments, _whole).astype(float) - 8) / 2
        costs.append(
            (
                relative_cost(weights, compensated, moments),
                relative_cost(weights, _whole(0, weights)[1], moments),
            )
        )
    ours, nearest = np.mean(costs, axis=0)
    assert ours < 0.8 * nearest


def test_inputs_that_do_not_correlate_are_rounded_to_the_nearest() -> None:
    weights, _ = _setting(0)
    assert (gptq(weights, np.diag([3.0, 0.0, 2, 1, 5, 4]), _whole) == _whole(0, weights)[0]).all()


def test_refitted_scales_are_the_best_of_a_fine_grid() -> None:
    weights, moments = _setting(1)
    units = np.rint(weights * 2)
    scales = refitted_scales(weights, units, moments)
    for column in range(4):
        w, u = weights[:, column : column + 1], units[:, column : column + 1]
        best = min(np.linspace(0.2, 0.8, 601), key=lambda s: relative_cost(w, s * u, moments))
        assert abs(scales[column] - best) < 1e-3
    assert (refitted_scales(weights, np.zeros((6, 4)), moments) == 1).all()
