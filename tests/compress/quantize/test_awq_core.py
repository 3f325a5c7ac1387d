from __future__ import annotations

import numpy as np

from pocketformer.compress.quantize.awq_core import awq_scales


def _rounded(weight: np.ndarray) -> np.ndarray:
    step = np.abs(weight).max(axis=0) / 7
    return np.rint(weight / step) * step


def _cost(weight: np.ndarray, moments: np.ndarray, scales: np.ndarray) -> float:
    difference = weight - _rounded(weight * scales[:, None]) / scales[:, None]
    return float((difference * (moments @ difference)).sum())


def test_scales_cost_less_where_some_inputs_are_large_and_never_more() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(10):
        inputs = rng.normal(size=(100, 16)) * np.where(np.arange(16) < 2, 20, 1)
        moments, weight = inputs.T @ inputs / 100, rng.normal(size=(16, 8))
        scales = awq_scales([weight], moments, _rounded)
        shares.append(_cost(weight, moments, scales) / _cost(weight, moments, np.ones(16)))
        assert (scales[:2] >= scales[2:].max()).all()
    assert max(shares) <= 1
    assert np.mean(shares) < 0.6


def test_it_is_the_best_of_the_powers_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(50, 8)) * np.linspace(1, 9, 8)
    moments, weights = inputs.T @ inputs / 50, [rng.normal(size=(8, 4)), rng.normal(size=(8, 3))]
    size = np.sqrt(np.diag(moments))
    tried = {
        alpha: size**alpha / np.sqrt((size**alpha).max() * (size**alpha).min())
        for alpha in np.arange(20) / 20
    }
    best = min(tried.values(), key=lambda s: sum(_cost(weight, moments, s) for weight in weights))
    assert np.allclose(awq_scales(weights, moments, _rounded), best)


def test_inputs_that_are_never_seen_do_not_break_it() -> None:
    scales = awq_scales([np.ones((4, 2))], np.zeros((4, 4)), _rounded)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
