from __future__ import annotations

import numpy as np
import pytest

from pocketformer.compress.quantize.embeddings_core import quantize_table
from pocketformer.compress.quantize.hqq_core import NORM, quantize_half_quadratic, shrink


@pytest.mark.parametrize("symmetric", [True, False])
def test_it_lowers_what_it_minimizes_in_every_block(symmetric: bool) -> None:
    table = np.random.default_rng(0).standard_t(3, size=(40, 64)).astype(np.float32)
    how = {"bits": 4, "block": 32, "symmetric": symmetric}
    errors = [
        (np.abs(table - result.dequantize()) ** NORM).reshape(40, 2, 32).sum(axis=2)
        for result in (quantize_half_quadratic(table, **how), quantize_table(table, grid=1, **how))
    ]
    assert (errors[0] <= errors[1] + 1e-3).all()
    assert errors[0].mean() < 0.95 * errors[1].mean()


def test_the_threshold_pulls_to_zero_and_spares_outliers() -> None:
    values = np.array([-3.0, -0.05, 0.0, 0.05, 3.0], np.float32)
    shrunk = shrink(values, 10.0)
    assert (shrunk[1:4] == 0).all()
    assert np.allclose(shrunk[[0, 4]], values[[0, 4]], atol=0.1)


def test_a_table_of_zeros_stays_zero() -> None:
    result = quantize_half_quadratic(np.zeros((2, 32), np.float32), bits=4, block=32, symmetric=False)
    assert (result.dequantize() == 0).all()
