"""Low rank of an embedding table: which directions stay, weighed by how often each row is looked up.

Source: Chen, Si, Li, Chelba, Hsieh 2018 (GroupReduce, arXiv:1806.06950): rows of frequent tokens count more in the
approximation, because word frequencies are far from uniform. Theirs has a basis for each group of rows; one for all
rows keeps the look-up a single product.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def weighted_low_rank(table: Floats, weights: Floats, rank: int) -> tuple[Floats, float]:
    """The projection of all rows on the ``rank`` directions with the least weighted squared error, and the share kept.

    ``table`` is [rows, width], ``weights`` [rows], above 0: what each row's squared error counts for. With
    D = diag(sqrt(weights)) the directions are the right singular vectors of D table (Eckart, Young 1936). Returns the
    table of that rank, [rows, width], and the weighted share of its squares that is kept, 0 to 1. ``ValueError``
    unless 1 <= rank <= width and there is a positive weight for each row.
    """
    rows, width = table.shape
    if weights.shape != (rows,) or not (weights > 0).all():
        raise ValueError(f"{rows} rows need as many positive weights, got shape {weights.shape}")
    if not 1 <= rank <= width:
        raise ValueError(f"a table of width {width} cannot have rank {rank}")
    gram = table.T @ (table * weights[:, None])
    values, vectors = np.linalg.eigh(gram)
    kept = vectors[:, ::-1][:, :rank]
    total = float(values.sum())
    share = float(values[::-1][:rank].sum()) / total if total > 0 else 1.0
    return (table @ kept) @ kept.T, share
