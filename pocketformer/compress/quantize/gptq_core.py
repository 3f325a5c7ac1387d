"""GPTQ: rounding the weights of a product one input after the other, pure maths: numpy arrays in, arrays out.

For inputs X [rows, K] and weights W [K, N] rounding to W_hat costs |X W - X W_hat|^2 = tr(D^T H D) with D = W - W_hat
and the second moments H = X^T X / rows. GPTQ (Frantar et al. 2022, section 3.3) rounds row k of W, then moves the
rows that are not rounded yet to where the cost is least for what is fixed. With H^-1 = U^T U, U upper triangular, all
those moves are

    e = (w_k - w_hat_k) / U[k, k],    W[k + 1 :] -= U[k, k + 1 :]^T e.

Rows go by falling H[k, k] ("act order"), so that the largest inputs are rounded while the most rows can still
make up for them. H gets ``damping`` times its mean diagonal added to the diagonal (section 3.3, step 3).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
# (number of the row, its values [N]) -> the codes and the values that they stand for, both [N]
RoundRow = Callable[[int, FloatArray], tuple[NDArray[np.uint8], FloatArray]]


def gptq(
    weights: FloatArray, moments: FloatArray, round_row: RoundRow, *, damping: float = 0.01
) -> NDArray[np.uint8]:
    """Codes uint8 [K, N] for ``weights`` [K, N] with inputs of second moments ``moments`` [K, K]."""
    order = np.argsort(-np.diag(moments), kind="stable")
    upper = _inverse_factor(damped(moments, damping)[np.ix_(order, order)])
    left = weights[order].astype(np.float64)
    codes = np.empty(weights.shape, np.uint8)
    for place, row in enumerate(order):
        codes[row], values = round_row(int(row), left[place])
        error = (left[place] - values) / upper[place, place]
        left[place + 1 :] -= np.outer(upper[place, place + 1 :], error)
    return codes


def damped(moments: FloatArray, damping: float) -> FloatArray:
    """``moments`` that can be inverted: inputs that are always 0 count as 1, and the diagonal is raised."""
    result = moments.astype(np.float64).copy()
    diagonal = np.einsum("ii->i", result)
    diagonal[diagonal <= 0] = 1.0
    diagonal += damping * diagonal.mean()
    return result


def refitted_scales(weights: FloatArray, units: FloatArray, moments: FloatArray) -> FloatArray:
    """Scales s [N] of least cost for W_hat = units * s: s_j = u_j^T H w_j / u_j^T H u_j; 1 for a column of zeros."""
    reached = moments @ units
    energy = (reached * units).sum(axis=0)
    product = (reached * weights).sum(axis=0)
    found = (energy > 0) & (product > 0)
    return np.where(found, product / np.where(energy > 0, energy, 1.0), 1.0)


def relative_cost(weights: FloatArray, rounded: FloatArray, moments: FloatArray) -> float:
    """tr(D^T H D) / tr(W^T H W): the share of the product's energy that rounding changes."""
    difference = weights - rounded
    energy = float((weights * (moments @ weights)).sum())
    return float((difference * (moments @ difference)).sum()) / energy if energy > 0 else 0.0


def _inverse_factor(moments: FloatArray) -> FloatArray:
    """U upper triangular with U^T U = moments^-1."""
    lower: FloatArray = np.linalg.cholesky(np.linalg.inv(moments))
    return lower.T
