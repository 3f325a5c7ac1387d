"""Vector quantization of tables with one shared codebook, pure maths: numpy arrays in, arrays out.

A row x of n columns is scaled to unit root mean square, cut into n/d groups of d neighbouring columns, and
each group is replaced by the number of the nearest of 256 codewords in R^d:

    x_hat = s * [C[k_1], ..., C[k_{n/d}]],    k_j = argmin_k |x_j / s - C[k]|^2.

That stores 8/d bits a column: 2.67 at d = 3, where rounding each column alone would waste the codes that lie
in the corners of the cube. The codebook is fitted by k-means (Lloyd 1982) on a seeded sample of groups; after
encoding, s is set to its least-squares value <x, c> / <c, c>, which cannot raise the error. Product
quantization: Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011; here all
groups share one codebook, because the columns of trained embeddings are alike once rows are scaled, and 128
codebooks would add to the file what they save in error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
CODEWORDS = 256
_SAMPLE = 40_000  # groups that the codebook is fitted on
_ROUNDS = 15
_GROUPS_A_CHUNK = 32_768  # their distances to all codewords take 32 MB


@dataclass(frozen=True, kw_only=True)
class CodebookTable:
    """A table [rows, columns] as codes uint8 [rows, groups], codebook float32 [256, d], scales [rows, 1].

    There are ceil(columns / d) groups; what the last one holds beyond the columns means nothing.
    """

    codes: NDArray[np.uint8]
    codebook: FloatArray
    scales: FloatArray
    columns: int

    def dequantize(self) -> FloatArray:
        """The table that the codes stand for, float32 [rows, columns]."""
        rows = len(self.codes)
        table: FloatArray = self.codebook[self.codes].reshape(rows, -1)[:, : self.columns] * self.scales
        return table


def quantize_with_codebook(table: FloatArray, *, group: int, seed: int = 0) -> CodebookTable:
    """Quantize float32 [rows, columns] in groups of ``group`` columns.

    Raises ``ValueError`` for a table that is not finite, or groups wider than the table.
    """
    if table.ndim != 2 or not 1 <= group <= table.shape[1]:
        raise ValueError(f"{table.shape} cannot be cut into groups of {group} columns")
    if not np.isfinite(table).all():
        raise ValueError("the table holds values that are not finite")
    rows, columns = table.shape
    scales = np.sqrt((table.astype(np.float64) ** 2).mean(axis=1, keepdims=True)).astype(np.float32)
    scales[scales == 0] = 1
    padded = np.pad(table / scales, ((0, 0), (0, -columns % group)))
    groups = padded.reshape(-1, group).astype(np.float32)
    rng = np.random.default_rng(seed)
    sample = groups[rng.choice(len(groups), min(_SAMPLE, len(groups)), replace=False)]
    codebook = fit_codebook(sample, rng)
    codes = nearest(groups, codebook).reshape(rows, -1)
    words = codebook[codes].reshape(rows, -1)[:, :columns]
    energy = (words * words).sum(axis=1, keepdims=True)
    product = (words * table).sum(axis=1, keepdims=True)
    scales = np.where(energy > 0, product / np.maximum(energy, 1e-30), 0).astype(np.float32)
    return CodebookTable(codes=codes, codebook=codebook, scales=scales, columns=columns)


def fit_codebook(sample: FloatArray, rng: np.random.Generator, *, codewords: int = CODEWORDS) -> FloatArray:
    """k-means: float32 [codewords, d] for a sample [n, d]; a codeword that nothing is nearest to stays.

    A sample with fewer different points than codewords is reproduced exactly.
    """
    different = np.unique(sample, axis=0)
    if len(different) <= codewords:
        return np.concatenate(
            [different, np.zeros((codewords - len(different), sample.shape[1]), np.float32)]
        )
    codebook = different[rng.choice(len(different), codewords, replace=False)].copy()
    for _ in range(_ROUNDS):
        owner = nearest(sample, codebook)
        count = np.bincount(owner, minlength=codewords)
        for column in range(sample.shape[1]):
            total = np.bincount(owner, sample[:, column], minlength=codewords)
            codebook[:, column] = np.where(count > 0, total / np.maximum(count, 1), codebook[:, column])
    return codebook


def nearest(points: FloatArray, codebook: FloatArray) -> NDArray[np.uint8]:
    """The number of the codeword nearest to each point, uint8 [n]."""
    squares = (codebook * codebook).sum(axis=1)
    found = np.empty(len(points), np.uint8)
    for start in range(0, len(points), _GROUPS_A_CHUNK):
        part = points[start : start + _GROUPS_A_CHUNK]
        found[start : start + len(part)] = (squares - 2.0 * (part @ codebook.T)).argmin(axis=1)
    return found
