from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.compress.prune.hidden_core import fit_scale_and_shift, principal_subspace


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10))
def test_no_other_directions_carry_more(hidden: int, width: int, seed: int) -> None:
    width = min(width, hidden)
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(20, hidden)) * rng.uniform(0.1, 3, hidden)
    moment = rows.T @ rows
    kept, share = principal_subspace(moment, width)
    np.testing.assert_allclose(kept.T @ kept, np.eye(width), atol=1e-10)
    assert share == pytest.approx(np.sum((rows @ kept) ** 2) / np.sum(rows**2))
    for _ in range(20):
        other = np.linalg.qr(rng.normal(size=(hidden, width)))[0]
        assert np.sum((rows @ other) ** 2) <= np.sum((rows @ kept) ** 2) + 1e-9
    # What is left of the rows is what least squares leaves.
    rest = np.sum(rows**2) * (1 - share)
    assert np.sum((rows - rows @ kept @ kept.T) ** 2) == pytest.approx(rest, abs=1e-8)


@pytest.mark.parametrize("width", [0, 4])
def test_a_width_that_cannot_be(width: int) -> None:
    with pytest.raises(ValueError, match="cannot keep"):
        principal_subspace(np.eye(3), width)


@given(st.integers(2, 30), st.integers(0, 10))
def test_scale_and_shift_are_the_least_squares_solution(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, targets = rng.normal(size=(2, rows, 3))
    inputs[:, 1] = 2.0  # does not vary: the shift alone explains what can be
    scale, shift = fit_scale_and_shift(inputs, targets)
    for column in (0, 2):
        design = np.stack([inputs[:, column], np.ones(rows)], axis=1)
        expected = np.linalg.lstsq(design, targets[:, column], rcond=None)[0]
        np.testing.assert_allclose([scale[column], shift[column]], expected, atol=1e-7)
    assert (scale[1], shift[1]) == (0.0, pytest.approx(targets[:, 1].mean()))
