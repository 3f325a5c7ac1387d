"""SmoothQuant (Xiao et al. 2023, arXiv 2211.10438): move the outliers of activations into the weights.

A product Y = X W reads channels that are quantized with one scale; a channel of outliers takes that scale for itself.
For any positive s, Y = (X diag(s)^-1) (diag(s) W), and with equation 4, s_j = max|X_j|^a / max|W_j|^(1-a), both factors
are about as hard to quantize. The strength a is taken from a grid by the error of the quantized product itself.

Shapes: R rows, I inputs (channels), O outputs. Arrays are float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Beyond this ratio of its largest to its smallest scale a rewritten graph loses digits of float32 itself.
_LARGEST_RATIO = 1e4


def smoothing_scales(activations: Array, weights: Array, strength: float) -> Array:
    """The scales s > 0, [I], of geometric mean 1.

    ``activations`` [I] are the largest magnitudes of each channel, ``weights`` [I] those of each row of the weights.
    A channel that is 0 in either keeps the scale 1. ``ValueError`` when ``strength`` is not within [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength:g}, which is not within 0 and 1")
    alive = (activations > 0) & (weights > 0)
    x, w = np.where(alive, activations, 1.0), np.where(alive, weights, 1.0)
    logs = strength * np.log(x) - (1 - strength) * np.log(w)
    # A common factor changes nothing: without it, s is near 1 where there is nothing to smooth.
    logs = np.where(alive, logs - logs[alive].mean() if alive.any() else 0.0, 0.0)
    limit = np.log(_LARGEST_RATIO) / 2
    return np.exp(np.clip(logs, -limit, limit)).astype(np.float32)


def quantized_activations(x: Array) -> Array:
    """``x`` as its nearest uint8 codes say: one scale and zero point for all, the range widened to hold 0."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = np.rint(-low / scale)
    rounded: Array = ((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)
    return rounded


def quantized_weights(w: Array, largest: int) -> Array:
    """``w`` [I, O] as its nearest codes of -``largest`` to ``largest`` say, one scale for each output."""
    scale = np.abs(w).max(axis=0, keepdims=True) / largest
    scale = np.where(scale > 0, scale, 1.0)
    return (np.rint(w / scale) * scale).astype(np.float32)


def product_error(x: Array, w: Array, scales: Array, largest: int) -> float:
    """Squared error of the quantized product of ``x`` [R, I] and ``w`` [I, O], over that of the product itself."""
    exact = x @ w
    rough = quantized_activations(x / scales) @ quantized_weights(scales[:, None] * w, largest)
    return float(((rough - exact) ** 2).sum() / max(float((exact**2).sum()), 1e-30))


def best_scales(
    x: Array, w: Array, largest_activations: Array, strengths: Sequence[float], largest: int
) -> tuple[Array | None, float, float]:
    """The scales of the strength with the least error, None when all do worse than no smoothing.

    ``x`` [R, I] is a sample of rows, ``largest_activations`` [I] the largest magnitudes of all of them. Also gives the
    errors (see ``product_error``) without smoothing and with what is chosen.
    """
    plain = product_error(x, w, np.ones(len(w), np.float32), largest)
    best: tuple[Array | None, float] = (None, plain)
    for strength in strengths:
        scales = smoothing_scales(largest_activations, np.abs(w).max(axis=1), strength)
        error = product_error(x, w, scales, largest)
        if error < best[1]:
            best = (scales, error)
    return best[0], plain, best[1]
