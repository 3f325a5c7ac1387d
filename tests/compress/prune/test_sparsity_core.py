from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from pocketformer.compress.prune.sparsity_core import kept, magnitude, sparsegpt, wanda


def _setting(seed: int, rows: int = 8, columns: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(60, rows)) @ rng.normal(size=(rows, rows))
    return rng.normal(size=(rows, columns)), inputs.T @ inputs / 60


def _cost(weights: np.ndarray, sparse: np.ndarray, moments: np.ndarray) -> float:
    difference = weights - sparse
    return float((difference * (moments @ difference)).sum())


@pytest.mark.parametrize("share", [0.25, 0.5, None])
def test_every_method_gives_the_zeros_that_were_asked_for(share: float | None) -> None:
    weights, moments = _setting(0)
    for sparse in (
        magnitude(weights, share),
        wanda(weights, moments, share),
        sparsegpt(weights, moments, share),
    ):
        zeros = sparse == 0
        if share is None:
            assert (zeros.reshape(2, 4, 5).sum(axis=1) == 2).all()
        else:
            assert zeros.sum() == round(share * weights.size)


def test_wanda_is_the_best_choice_where_inputs_do_not_correlate() -> None:
    """Brute force over all pairs of every four, and over all halves of every output."""
    weights, _ = _setting(1)
    moments = np.diag(np.linspace(0.1, 3, 8))
    for share, rows in ((None, (slice(0, 4), slice(4, 8))), (0.5, (slice(0, 8),))):
        sparse = wanda(weights, moments, share)
        for column in range(5):
            for part in rows:
                w, h = weights[part, column], np.diag(moments)[part]
                best = min(
                    sum(h[i] * w[i] ** 2 for i in gone) for gone in combinations(range(len(w)), len(w) // 2)
                )
                assert np.isclose((h * (w - sparse[part, column]) ** 2).sum(), best)


@pytest.mark.parametrize("share", [0.5, None])
def test_sparsegpt_moves_the_rows_that_come_later_to_where_the_cost_is_least(share: float | None) -> None:
    """Brute force: given its zeros, the exact minimum over all later rows is solved for after each row."""
    weights, moments = _setting(2)
    sparse = sparsegpt(weights, moments, share)
    raised = moments + 0.01 * np.diag(moments).mean() * np.eye(8)
    for column in range(5):
        fixed = np.zeros(8)
        for row in range(8):
            done, rest = np.arange(row), np.arange(row, 8)
            moved = weights[rest, column] + np.linalg.solve(
                raised[np.ix_(rest, rest)],
                raised[np.ix_(rest, done)] @ (weights[done, column] - fixed[done]),
            )
            fixed[row] = moved[0] if sparse[row, column] else 0.0
        assert np.allclose(sparse[:, column], fixed)


def test_sparsegpt_costs_less_than_wanda_and_wanda_less_than_magnitude() -> None:
    costs = np.zeros(3)
    for seed in range(10):
        weights, moments = _setting(seed, rows=32)
        sizes = np.geomspace(0.1, 3, 32)  # some inputs are large, which magnitude does not see
        moments = moments * sizes[:, None] * sizes
        made = (
            sparsegpt(weights, moments, 0.5),
            wanda(weights, moments, 0.5),
            magnitude(weights, 0.5),
        )
        costs += [_cost(weights, sparse, moments) for sparse in made]
    assert costs[0] < 0.85 * costs[1]
    assert costs[1] < costs[2]


def test_rows_beyond_the_last_four_stay_and_ties_are_cut_evenly() -> None:
    mask = kept(np.ones((6, 3)), None)
    assert mask[4:].all()
    assert (mask[:4].sum(axis=0) == 2).all()
    assert kept(np.ones((4, 4)), 0.25).sum() == 12
