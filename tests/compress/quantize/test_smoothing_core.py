from __future__ import annotations

import numpy as np
import pytest

from pocketformer.compress.quantize.smoothing_core import (
    best_scales,
    product_error,
    quantized_activations,
    quantized_weights,
    smoothing_scales,
)


def _outliers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 24)).astype(np.float32)
    x[:, [3, 11]] *= 40
    return x, rng.standard_normal((24, 16)).astype(np.float32)


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.5, 1.0])
def test_scales_are_those_of_the_paper_but_for_a_common_factor(strength: float) -> None:
    x, w = _outliers()
    scales = smoothing_scales(np.abs(x).max(axis=0), np.abs(w).max(axis=1), strength)
    expected = [
        max(abs(float(v)) for v in x[:, j]) ** strength / max(abs(float(v)) for v in w[j]) ** (1 - strength)
        for j in range(24)
    ]
    ratio = scales / np.array(expected)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert np.prod(scales.astype(np.float64)) == pytest.approx(1, rel=1e-3)


def test_a_smoothed_product_is_the_same_product() -> None:
    x, w = _outliers()
    scales = smoothing_scales(np.abs(x).max(axis=0), np.abs(w).max(axis=1), 0.5)
    np.testing.assert_allclose((x / scales) @ (scales[:, None] * w), x @ w, rtol=1e-4, atol=1e-4)


def test_channels_that_are_zero_keep_their_scale() -> None:
    scales = smoothing_scales(np.array([0, 1, 4], np.float32), np.array([1, 0, 1], np.float32), strength=0.5)
    assert np.isfinite(scales).all()
    assert scales[:2].tolist() == [1, 1]
    with pytest.raises(ValueError, match="within 0 and 1"):
        smoothing_scales(scales, scales, 1.5)


def test_rounding_is_to_the_nearest_code() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 3, (5, 7)).astype(np.float32)
    step = (x.max() - x.min()) / 255
    assert (
        np.abs(quantized_activations(x) - x).max() <= step / 2 * 1.001 + step / 2
    )  # the zero point rounds too
    assert len(np.unique(np.rint(quantized_activations(x) / step))) > 20
    w = rng.standard_normal((7, 4)).astype(np.float32)
    steps = np.abs(w).max(axis=0) / 64
    assert (np.abs(quantized_weights(w, 64) - w) <= steps / 2 * 1.001).all()
    assert quantized_activations(np.zeros((2, 2), np.float32)).tolist() == [[0, 0], [0, 0]]


def test_outliers_are_smoothed_and_where_there_are_none_nothing_is_lost() -> None:
    x, w = _outliers()
    scales, before, after = best_scales(x, w, np.abs(x).max(axis=0), (0.3, 0.5, 0.8), 127)
    assert scales is not None
    assert after < before / 3
    assert after == pytest.approx(product_error(x, w, scales, 127))
    one = np.ones((4, 4), np.float32)  # exact in 8 bits
    _, before, after = best_scales(one, one, one[0], (0.5,), 127)
    assert after <= before < 1e-9
