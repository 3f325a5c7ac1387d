"""Scalar quantization of weights to a few levels, pure maths: numpy arrays in, arrays out.

A weight matrix W [inputs, outputs] is stored as numbers c of levels L_0 < ... < L_{n-1} with a scale for each column:

    W_hat[k, j] = s_j * L[c[k, j]].

Columns of trained weights are close to normal, so the levels are those of least squared error for the standard normal
distribution (Max, "Quantizing for minimum distortion", 1960): each level is the mean of the values that are nearest to
it, (phi(a) - phi(b)) / (Phi(b) - Phi(a)) between the thresholds a and b halfway to its neighbours. With 16 levels
the error is 18% less than that of the best evenly spaced ones. All levels are then rounded to int8, because products
are computed with them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
# Weights of 7 bits: on x86 without VNNI, products of uint8 and larger int8 overflow.
LARGEST = 63
_ROUNDS = 2000
_CLIPPED = 20  # ranges tried for the scale of a column, from its largest weight down to 0.3 of it


def normal_levels(count: int) -> FloatArray:
    """The ``count`` levels of least squared error for the standard normal distribution, ascending."""
    levels = np.linspace(-2.0, 2.0, count)
    for _ in range(_ROUNDS):
        inner = (levels[1:] + levels[:-1]) / 2
        density = np.concatenate([[0.0], np.exp(-(inner**2) / 2) / math.sqrt(2 * math.pi), [0.0]])
        below = np.concatenate([[0.0], [(1 + math.erf(x / math.sqrt(2))) / 2 for x in inner], [1.0]])
        levels = (density[:-1] - density[1:]) / (below[1:] - below[:-1])
    return levels


def integer_levels(count: int) -> NDArray[np.int8]:
    """``normal_levels`` stretched to [-63, 63] and rounded, int8 [count]."""
    levels = normal_levels(count)
    rounded: NDArray[np.int8] = np.rint(levels / levels[-1] * LARGEST).astype(np.int8)
    return rounded


def nearest_level(values: FloatArray, levels: FloatArray) -> NDArray[np.uint8]:
    """The number of the level that is nearest to each value; ``levels`` ascend."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values).astype(np.uint8)


def column_scales(
    weights: FloatArray, levels: FloatArray, importance: FloatArray | None = None
) -> FloatArray:
    """Scales s [outputs] > 0 of least error sum_k h_k (W[k, j] - W_hat[k, j])^2 among clipped ranges of each column.

    ``importance`` h [inputs] is how large each input is in the mean of its squares; None: all alike.
    """
    h = np.ones(len(weights)) if importance is None else importance
    full = np.abs(weights).max(axis=0) / np.abs(levels).max()
    full = np.where(full > 0, full, 1.0)
    best, least = full.copy(), np.full(full.shape, np.inf)
    for share in np.geomspace(1.0, 0.3, _CLIPPED):
        scales = full * share
        difference = levels[nearest_level(weights / scales, levels)] * scales - weights
        error = (h[:, None] * difference**2).sum(axis=0)
        better = error < least
        best[better], least[better] = scales[better], error[better]
    return best


def group_table(levels: NDArray[np.int8], group: int) -> NDArray[np.int8]:
    """What each byte stands for, int8 [n ** group, group]: byte = c_0 + n c_1 + n^2 c_2 + ... for n levels."""
    count = len(levels)
    if count**group > 256:
        raise ValueError(f"{group} numbers of {count} levels do not fit into a byte")
    numbers = np.arange(count**group)
    return np.stack([levels[(numbers // count**place) % count] for place in range(group)], axis=1)


def group_codes(codes: NDArray[np.uint8], count: int, group: int) -> NDArray[np.uint8]:
    """Numbers of levels uint8 [inputs, outputs] as bytes uint8 [inputs, ceil(outputs / group)]; see ``group_table``."""
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % group))).astype(np.int64)
    parts = [padded[:, place::group] * count**place for place in range(group)]
    packed: NDArray[np.uint8] = np.sum(parts, axis=0).astype(np.uint8)
    return packed
