"""Which of the rows that stay is most like a row that goes: cosine similarity, in blocked numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
_BLOCK = 1024  # rows compared at once: 1024 x 12000 similarities take 49 MB


def nearest(rows: Floats, kept: Floats) -> tuple[Integers, Floats]:
    """Index of the row of ``kept`` with the highest cosine, and that cosine: [n, d], [m, d] -> [n], [n].

    A row of zeros is like no other (cosine 0) and takes the first. Raises ``ValueError`` when nothing is kept.
    """
    if len(kept) == 0:
        raise ValueError("no rows to choose from")
    index = np.zeros(len(rows), dtype=np.int64)
    cosine = np.zeros(len(rows), dtype=np.float32)
    unit, transposed = _normalised(rows), np.ascontiguousarray(_normalised(kept).T)
    for start in range(0, len(rows), _BLOCK):
        similarity = unit[start : start + _BLOCK] @ transposed
        block = similarity.argmax(axis=1)
        index[start : start + _BLOCK] = block
        cosine[start : start + _BLOCK] = similarity[np.arange(len(block)), block]
    return index, cosine


def _normalised(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)
