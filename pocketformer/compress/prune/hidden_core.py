"""Narrowing the hidden width: which subspace to keep, and how a layer norm is refitted in it. Arrays in, arrays out.

Sources: keeping the directions in which hidden states vary most is the idea of Ashkboos et al. 2024 (SliceGPT,
arXiv:2401.15024). There the model's norms commute with a rotation. A layer norm with a scale for each
coordinate does not, and in an encoder like BERT it stands in the residual stream, where the scale cannot be moved into
the next product; so here scale and shift are fitted anew to what the projected original says.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def principal_subspace(second_moment: Floats, width: int) -> tuple[Floats, float]:
    """The ``width`` directions of largest second moment, orthonormal [hidden, width], and the share they carry.

    ``second_moment`` [hidden, hidden] is the mean of x x^T, symmetric and positive semidefinite. ``ValueError`` unless
    1 <= width <= hidden.
    """
    hidden = second_moment.shape[0]
    if second_moment.shape != (hidden, hidden) or not 1 <= width <= hidden:
        raise ValueError(f"cannot keep {width} directions of a second moment of shape {second_moment.shape}")
    values, vectors = np.linalg.eigh(second_moment)
    kept = vectors[:, ::-1][:, :width]
    total = float(values.sum())
    return np.ascontiguousarray(kept), float(values[::-1][:width].sum()) / total if total > 0 else 1.0


def fit_scale_and_shift(inputs: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """For each column the scale g and shift b with the least sum of (g * input + b - target)^2.

    ``inputs`` and ``targets`` are [rows, width]; a column whose input does not vary gets scale 0. Returns [width] each.
    """
    mean_in, mean_out = inputs.mean(axis=0), targets.mean(axis=0)
    centred = inputs - mean_in
    variance = np.square(centred).mean(axis=0)
    covariance = (centred * (targets - mean_out)).mean(axis=0)
    scale = np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > 1e-12)
    return scale, mean_out - scale * mean_in
