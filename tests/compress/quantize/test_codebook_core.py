from __future__ import annotations

import numpy as np
import pytest

from pocketformer.compress.quantize.codebook_core import fit_codebook, nearest, quantize_with_codebook
from pocketformer.compress.quantize.embeddings_core import quantize_table


def relative(table: np.ndarray, back: np.ndarray) -> float:
    return float(np.sqrt(((back - table) ** 2).sum() / (table**2).sum()))


def test_nearest_is_what_comparing_with_every_codeword_finds() -> None:
    rng = np.random.default_rng(0)
    points, words = (
        rng.standard_normal((500, 3)).astype(np.float32),
        rng.standard_normal((40, 3)).astype(np.float32),
    )
    slow = [min(range(40), key=lambda k: float(((p - words[k]) ** 2).sum())) for p in points]
    np.testing.assert_array_equal(nearest(points, words), slow)


def test_every_codeword_is_the_mean_of_the_points_nearest_to_it() -> None:
    """The fixed point of Lloyd's rounds, on clusters that are easy to tell apart."""
    rng = np.random.default_rng(1)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
    points = (centres[rng.integers(0, 4, 400)] + rng.normal(0, 0.1, (400, 2))).astype(np.float32)
    best = min(
        float(((points - book[nearest(points, book)]) ** 2).sum())
        for book in (fit_codebook(points, np.random.default_rng(s), codewords=4) for s in range(8))
    )
    by_hand = sum(
        float(((g - g.mean(axis=0)) ** 2).sum())
        for g in (points[nearest(points, centres) == k] for k in range(4))
    )
    assert best == pytest.approx(by_hand, rel=1e-4)


def test_a_table_of_few_different_groups_comes_back_exactly() -> None:
    rng = np.random.default_rng(2)
    words = rng.standard_normal((10, 3)).astype(np.float32)
    table = words[rng.integers(0, 10, (20, 1))].reshape(20, 3).repeat(4, axis=0).reshape(80, 3)
    found = quantize_with_codebook(table, group=3)
    np.testing.assert_allclose(found.dequantize(), table, rtol=1e-5)


def test_at_the_same_bits_it_beats_rounding_every_column() -> None:
    table = np.random.default_rng(3).standard_normal((800, 96)).astype(np.float32)
    table *= np.random.default_rng(4).uniform(0.1, 3, (800, 1)).astype(np.float32)
    codebook = quantize_with_codebook(table, group=4)  # 2 bits a column and one scale a row
    rounded = quantize_table(table, bits=2, block=96, symmetric=False)
    assert codebook.codes.shape == (800, 24)
    assert relative(table, codebook.dequantize()) < 0.95 * relative(table, rounded.dequantize())


def test_scales_are_the_least_squares_ones_and_seeds_repeat() -> None:
    table = np.random.default_rng(5).standard_normal((60, 12)).astype(np.float32)
    found = quantize_with_codebook(table, group=3, seed=7)
    error = ((found.dequantize() - table) ** 2).sum(axis=1)
    for factor in (0.98, 1.02):
        words = found.codebook[found.codes].reshape(60, -1)
        assert (((words * found.scales * factor - table) ** 2).sum(axis=1) >= error - 1e-5).all()
    again = quantize_with_codebook(table, group=3, seed=7)
    np.testing.assert_array_equal(found.codes, again.codes)


def test_a_last_group_may_be_incomplete() -> None:
    table = np.random.default_rng(6).standard_normal((50, 7)).astype(np.float32)
    found = quantize_with_codebook(table, group=3)
    assert found.codes.shape == (50, 3)
    assert found.dequantize().shape == table.shape
    assert relative(table, found.dequantize()) < 0.3


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="groups of 9"):
        quantize_with_codebook(np.ones((2, 8), np.float32), group=9)
    with pytest.raises(ValueError, match="not finite"):
        quantize_with_codebook(np.full((2, 6), np.inf, np.float32), group=3)
    zeros = quantize_with_codebook(np.zeros((3, 6), np.float32), group=3)
    np.testing.assert_array_equal(zeros.dequantize(), 0)
