"""HQQ: scales of blocks found by half-quadratic splitting, without data; pure maths, arrays in, arrays out.

Half-quadratic quantization (Badri and Shaji 2023) minimizes |x - s (c - z)|_p^p with p < 1 over a block x, which cares
less for outliers than squares do. An auxiliary error e splits it into two steps that each have a closed form:

    e <- shrink(x - s (c - z)) = sign(r) max(|r| - |r|^(p - 1) / beta, 0)      with r = x - s (c - z),
    s <- <c - z, x - e> / <c - z, c - z>,

then codes c are the nearest ones and beta grows. HQQ fixes s and moves z; here z stays a whole code and s moves,
because onnxruntime computes 4-bit products in integers only with whole zero points. That finds the nearest valley
alone, so it starts from several clipped ranges; the best of all rounds is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketformer.compress.quantize.embeddings_core import QuantizedTable, quantize_table

FloatArray = NDArray[np.float32]
NORM = 0.7
_BETA, _GROWTH, _ROUNDS = 10.0, 1.01, 20
_STARTS = (1.0, 0.9, 0.8, 0.7)  # of the full range


def quantize_half_quadratic(table: FloatArray, *, bits: int, block: int, symmetric: bool) -> QuantizedTable:
    """Quantize float32 [rows, columns] in blocks of ``block`` columns; ``columns`` is a multiple of it."""
    start = quantize_table(table, bits=bits, block=block, symmetric=symmetric, grid=1)
    x = table.reshape(len(table), -1, block)
    middle = np.full(start.scales.shape, 1 << (bits - 1), np.float32)
    zeros = middle if start.zero_points is None else start.zero_points.astype(np.float32)
    # beta is made for weights of the order of 1.
    unit = np.maximum(np.abs(x).mean(axis=2, keepdims=True), np.float32(1e-12))
    best, least = start.scales.copy(), np.full(start.scales.shape, np.inf, np.float32)
    for share in _STARTS:
        scales, beta = start.scales * np.float32(share), _BETA
        for _ in range(_ROUNDS):
            steps = _codes(x, scales, zeros, bits) - zeros[..., None]
            residual = x - steps * scales[..., None]
            error = (np.abs(residual / unit) ** NORM).sum(axis=2)
            better = error < least
            best[better], least[better] = scales[better], error[better]
            target = x - shrink(residual / unit, beta) * unit
            energy = (steps * steps).sum(axis=2)
            product = (steps * target).sum(axis=2)
            scales = np.where((energy > 0) & (product != 0), product / np.maximum(energy, 1e-12), scales)
            beta *= _GROWTH
    codes = _codes(x, best, zeros, bits).astype(np.uint8).reshape(table.shape)
    return QuantizedTable(codes=codes, scales=best, zero_points=start.zero_points, bits=bits, block=block)


def shrink(values: FloatArray, beta: float) -> FloatArray:
    """The generalized soft threshold: argmin_e |e|_p^p + beta / 2 |e - values|^2, as HQQ approximates it."""
    size = np.abs(values)
    shrunk: FloatArray = np.sign(values) * np.maximum(size - (size + 1e-8) ** (NORM - 1) / beta, 0)
    return shrunk


def _codes(x: FloatArray, scales: FloatArray, zeros: FloatArray, bits: int) -> FloatArray:
    codes: FloatArray = np.clip(np.rint(x / scales[..., None]) + zeros[..., None], 0, (1 << bits) - 1)
    return codes
