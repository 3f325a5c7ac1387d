from __future__ import annotations

import numpy as np
import pytest

from pocketformer.compress.quantize.levels_core import (
    column_scales,
    group_codes,
    group_table,
    integer_levels,
    nearest_level,
    normal_levels,
)


def test_the_levels_are_those_of_the_paper() -> None:
    """Max 1960, table I: the positive levels for n = 4, 6 and 16."""
    assert np.allclose(normal_levels(4)[2:], [0.4528, 1.510], atol=5e-4)
    assert np.allclose(normal_levels(6)[3:], [0.3177, 1.000, 1.894], atol=5e-4)
    assert np.allclose(
        normal_levels(16)[8:], [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733], atol=1e-3
    )


def test_stored_levels_are_symmetric_and_have_seven_bits() -> None:
    levels = integer_levels(16)
    assert levels.dtype == np.int8
    assert levels[-1] == 63
    assert (levels == -levels[::-1]).all()
    assert len(set(levels.tolist())) == 16


@pytest.mark.parametrize(("count", "group"), [(16, 2), (6, 3)])
def test_a_byte_stands_for_its_weights(count: int, group: int) -> None:
    rng = np.random.default_rng(0)
    levels = integer_levels(count)
    codes = rng.integers(0, count, size=(5, 7)).astype(np.uint8)
    bytes_ = group_codes(codes, count, group)
    assert bytes_.shape == (5, -(-7 // group))
    back = group_table(levels, group)[bytes_].reshape(5, -1)[:, :7]
    assert (back == levels[codes]).all()


def test_more_than_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        group_table(integer_levels(16), 3)


def test_the_nearest_level_is_nearest_and_scales_are_the_best_that_were_tried() -> None:
    rng = np.random.default_rng(0)
    levels = normal_levels(6)
    values = rng.normal(size=40)
    brute = np.abs(values[:, None] - levels).argmin(axis=1)
    assert (nearest_level(values, levels) == brute).all()
    weights, importance = rng.normal(size=(60, 3)), rng.uniform(size=60)
    weights[0] *= 10  # an outlier that is worth clipping

    def error(scales: np.ndarray) -> np.ndarray:
        back = levels[nearest_level(weights / scales, levels)] * scales
        return (importance[:, None] * (weights - back) ** 2).sum(axis=0)

    scales = column_scales(weights, levels, importance)
    for share in np.geomspace(1.0, 0.3, 20):
        assert (error(scales) <= error(np.abs(weights).max(axis=0) / levels[-1] * share) + 1e-12).all()
    assert (column_scales(np.zeros((4, 2)), levels) > 0).all()
