from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.compress.prune.clustering_core import cluster_rows, nearest


def _rows(seed: int, count: int, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def test_nearest_equals_the_unblocked_search() -> None:
    rows, centres = _rows(0, 2500), _rows(1, 17)  # more rows than one block
    index, similarity = nearest(rows, centres)
    products = rows @ centres.T
    np.testing.assert_array_equal(index, products.argmax(1))
    np.testing.assert_allclose(similarity, products.max(1), rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 8), st.integers(0, 45))
def test_every_row_joins_what_is_nearest_and_no_centre_is_empty(seed: int, n: int, m: int, k: int) -> None:
    rows, fixed = _rows(seed, n), _rows(seed + 1, m)
    if m == 0 and k == 0:
        with pytest.raises(ValueError, match="neither"):
            cluster_rows(rows, fixed, k)
        return
    found = cluster_rows(rows, fixed, k, seed=seed)
    assert found.centres.shape == (min(n, k), 6)
    assert found.assignment.min() >= 0
    assert found.assignment.max() < m + len(found.centres)
    for j in range(len(found.centres)):
        members = rows[found.assignment == m + j]
        assert len(members) > 0
        np.testing.assert_allclose(found.centres[j], members.mean(axis=0), rtol=1e-4, atol=1e-5)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if m:
        to_fixed = (unit @ (fixed / np.linalg.norm(fixed, axis=1, keepdims=True)).T).max(axis=1)
        assert np.all(found.similarity >= to_fixed - 1e-5)


def test_separate_groups_are_found() -> None:
    rng = np.random.default_rng(5)
    directions = np.eye(4, dtype=np.float32)
    groups = np.repeat(np.arange(4), 30)
    rows = directions[groups] + rng.normal(scale=0.02, size=(120, 4)).astype(np.float32)
    found = cluster_rows(rows, directions[:1], 12, iterations=4)
    for label in np.unique(found.assignment):
        assert len(set(groups[found.assignment == label])) == 1


def test_the_seed_decides() -> None:
    rows, fixed = _rows(6, 200), _rows(7, 5)
    first, again = (cluster_rows(rows, fixed, 20, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.assignment, again.assignment)
    assert np.any(cluster_rows(rows, fixed, 20, seed=4).assignment != first.assignment)


def test_rows_of_zeros_and_equal_rows_are_no_trouble() -> None:
    rows = np.zeros((10, 3), dtype=np.float32)
    found = cluster_rows(rows, np.ones((2, 3), dtype=np.float32), 4)
    assert np.isfinite(found.centres).all()
    same = cluster_rows(np.ones((10, 3), dtype=np.float32), np.ones((2, 3), dtype=np.float32), 4)
    assert len(same.centres) == 4
