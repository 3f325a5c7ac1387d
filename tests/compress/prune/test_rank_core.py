from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.compress.prune.rank_core import weighted_low_rank


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 20))
def test_it_is_the_best_of_its_rank_under_the_weights(width: int, rank: int, seed: int) -> None:
    rank = min(rank, width)
    rng = np.random.default_rng(seed)
    table, weights = rng.normal(size=(12, width)), rng.uniform(0.1, 50, 12)
    lowered, share = weighted_low_rank(table, weights, rank)
    assert np.linalg.matrix_rank(lowered, tol=1e-9) <= rank
    # Eckart and Young: what is lost are the squares of the singular values that went.
    singular = np.linalg.svd(np.sqrt(weights)[:, None] * table, compute_uv=False)
    lost = float((weights[:, None] * (table - lowered) ** 2).sum())
    assert lost == pytest.approx(float((singular[rank:] ** 2).sum()), abs=1e-8)
    assert share == pytest.approx(1 - lost / float((singular**2).sum()), abs=1e-9)
    for _ in range(10):
        other = np.linalg.qr(rng.normal(size=(width, rank)))[0]
        assert (weights[:, None] * (table - table @ other @ other.T) ** 2).sum() >= lost - 1e-8


def test_a_frequent_row_is_kept_before_a_long_one() -> None:
    table = np.array([[1.0, 0.0], [0.0, 3.0]])
    often = weighted_low_rank(table, np.array([100.0, 1.0]), 1)[0]
    np.testing.assert_allclose(often, [[1, 0], [0, 0]], atol=1e-12)
    alike = weighted_low_rank(table, np.ones(2), 1)[0]
    np.testing.assert_allclose(alike, [[0, 0], [0, 3]], atol=1e-12)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_rank_that_cannot_be(rank: int) -> None:
    with pytest.raises(ValueError, match="cannot have rank"):
        weighted_low_rank(np.ones((4, 3)), np.ones(4), rank)


@pytest.mark.parametrize("weights", [np.ones(3), np.array([1.0, 1.0, 1.0, 0.0])])
def test_weights_that_do_not_fit(weights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    with pytest.raises(ValueError, match="positive weights"):
        weighted_low_rank(np.ones((4, 3)), weights, 1)
