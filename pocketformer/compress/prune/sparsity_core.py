"""Which weights of a map become zero, pure maths: numpy arrays in, arrays out.

For inputs X [rows, K] and weights W [K, N] changing W by D costs tr(D^T H D) with H = X^T X / rows. A pattern says how
many weights go: a share of each matrix, or in every four along the inputs two ("2:4", which tensor cores can skip). By

- magnitude, |W|: no data (Han et al. 2015),
- Wanda, |W[k, j]| sqrt(H[k, k]), compared within each output (Sun et al. 2023, equation 1): what a weight's going
  costs if inputs do not correlate,
- SparseGPT (Frantar and Alistarh 2023, algorithm 1): W[k, j]^2 / U[k, k]^2 with H^-1 = U^T U, after which the rows
  that come later make up for it as in GPTQ, W[k + 1 :] -= U[k, k + 1 :]^T e with e = (w_k - w_hat_k) / U[k, k]. The
  pattern is chosen anew for each block of rows, from weights that the blocks before have already changed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
GROUP, KEPT = 4, 2
_BLOCK = 128
_DAMPING = 0.01


def kept(scores: FloatArray, share: float | None, *, by_output: bool = False) -> NDArray[np.bool_]:
    """Which entries of ``scores`` [K, N] stay: True for the largest.

    ``share`` of them goes, of the whole matrix or with ``by_output`` of each column; None: two of every four rows. Rows
    beyond the last whole four all stay. Which of equals stay, their order says.
    """
    rows, columns = scores.shape
    if share is None:
        whole = rows - rows % GROUP
        fours = scores[:whole].reshape(-1, GROUP, columns)
        ranks = np.argsort(np.argsort(-fours, axis=1, kind="stable"), axis=1, kind="stable")
        mask = np.ones(scores.shape, bool)
        mask[:whole] = (ranks < KEPT).reshape(whole, columns)
        return mask
    if by_output:
        order = np.argsort(np.argsort(scores, axis=0, kind="stable"), axis=0, kind="stable")
        most: NDArray[np.bool_] = order >= round(share * rows)
        return most
    flat = np.argsort(np.argsort(scores, axis=None, kind="stable"), kind="stable")
    stays: NDArray[np.bool_] = (flat >= round(share * scores.size)).reshape(scores.shape)
    return stays


def magnitude(weights: FloatArray, share: float | None) -> FloatArray:
    """``weights`` with the smallest set to zero."""
    return weights * kept(np.abs(weights), share)


def wanda(weights: FloatArray, moments: FloatArray, share: float | None) -> FloatArray:
    """``weights`` with those set to zero whose product with their input's size is smallest in their output."""
    size = np.sqrt(np.maximum(np.diag(moments), 0))
    return weights * kept(np.abs(weights) * size[:, None], share, by_output=True)


def sparsegpt(weights: FloatArray, moments: FloatArray, share: float | None) -> FloatArray:
    """Weights with zeros, of which those that stay were changed to make up for what went."""
    raised = moments.astype(np.float64).copy()
    diagonal = np.einsum("ii->i", raised)
    diagonal[diagonal <= 0] = 1.0
    diagonal += _DAMPING * diagonal.mean()
    upper = np.linalg.cholesky(np.linalg.inv(raised)).T
    left = weights.astype(np.float64).copy()
    block = GROUP if share is None else _BLOCK
    for start in range(0, len(left), block):
        rows = slice(start, min(start + block, len(left)))
        stays = kept((left[rows] / np.diag(upper)[rows, None]) ** 2, share)
        for row in range(rows.start, rows.stop):
            values = left[row] * stays[row - start]
            error = (left[row] - values) / upper[row, row]
            left[row] = values
            left[row + 1 :] -= np.outer(upper[row, row + 1 :], error)
    return left
