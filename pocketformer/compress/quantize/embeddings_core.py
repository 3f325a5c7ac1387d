"""Blockwise quantization of tables, pure maths: numpy arrays in, arrays out.

A row of a table is cut into blocks of B columns. A block x becomes codes c of b bits, a scale s and a zero
point z, and stands for

    x_hat = s * (c - z),    c in 0 .. 2**b - 1.

Symmetric: z = 2**(b-1) for all blocks and is not stored. Since the codes then reach one step further down
(-2**(b-1)) than up (2**(b-1) - 1), the scale may be negative, so that the longer side meets the larger
tail; at 4 bits that matters. Asymmetric: z is one code for each block.

Taking s from the block's extremes wastes codes on outliers. The error |x - x_hat|^2 is not convex in s, so
s is searched: a grid of clipped ranges, then alternating least squares from the best one (for fixed codes
the best scale is s = <x, c - z> / <c - z, c - z>; for a fixed scale the best codes are the nearest ones),
neither of which can raise the error. The idea of searching the clipping range: Banner et al., "Post training
4-bit quantization of convolutional networks", 2019, section 3; here by search, without their assumption of
a distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Codes = NDArray[np.uint8]
# Least-squares rounds after the grid: the error settles within three on trained embeddings.
_REFINEMENTS = 4
# Rows quantized at a time: the grid's temporaries stay small whatever the table's size.
_ROWS_A_CHUNK = 2048


@dataclass(frozen=True, kw_only=True)
class QuantizedTable:
    """A table [rows, columns] as codes uint8 [rows, columns], scales float32 [rows, blocks], zero points.

    ``zero_points`` is uint8 [rows, blocks], or None for symmetric codes around 2**(bits-1). The last block
    may be shorter than ``block``.
    """

    codes: Codes
    scales: FloatArray
    zero_points: Codes | None
    bits: int
    block: int

    def dequantize(self) -> FloatArray:
        """The table that the codes stand for, float32 [rows, columns]."""
        columns = self.codes.shape[1]
        middle = 1 << (self.bits - 1)
        scales = np.repeat(self.scales, self.block, axis=1)[:, :columns]
        if self.zero_points is None:
            offset: NDArray[np.float32] = np.float32(middle) * np.ones((1, 1), np.float32)
        else:
            offset = np.repeat(self.zero_points, self.block, axis=1)[:, :columns].astype(np.float32)
        return (self.codes.astype(np.float32) - offset) * scales


def quantize_table(
    table: FloatArray,
    *,
    bits: int,
    block: int,
    symmetric: bool = True,
    grid: int = 16,
    scale_dtype: type[np.floating] = np.float32,
) -> QuantizedTable:
    """Quantize float32 [rows, columns] in blocks of ``block`` columns with the scales of least squared error.

    ``grid`` is the number of clipped ranges tried for each block, from the full one down to half of it; 1
    takes the extremes as they are. ``scale_dtype`` is the type that the scales will be stored in: they are
    rounded to it before the final codes are chosen. Raises ``ValueError`` for a table that is not finite.
    """
    if table.ndim != 2 or not 2 <= bits <= 8 or block < 1 or grid < 1:
        raise ValueError(f"cannot quantize {table.shape} to {bits} bits in blocks of {block}, grid {grid}")
    if not np.isfinite(table).all():
        raise ValueError("the table holds values that are not finite")
    rows, columns = table.shape
    blocks = -(-columns // block)
    # Padding repeats a block's last value: it changes no extreme, and weights of 0 keep it out of the error.
    weights = (np.arange(blocks * block) < columns).astype(np.float32).reshape(1, blocks, block)
    codes = np.empty((rows, blocks * block), np.uint8)
    scales = np.empty((rows, blocks), np.float32)
    zeros = np.empty((rows, blocks), np.uint8)
    for start in range(0, rows, _ROWS_A_CHUNK):
        part = table[start : start + _ROWS_A_CHUNK].astype(np.float32)
        padded = np.pad(part, ((0, 0), (0, blocks * block - columns)), mode="edge")
        cut = padded.reshape(len(part), blocks, block)
        chosen = _best(cut, weights, bits, symmetric, grid, scale_dtype)
        codes[start : start + len(part)] = chosen[0].reshape(len(part), -1)
        scales[start : start + len(part)] = chosen[1]
        zeros[start : start + len(part)] = chosen[2]
    return QuantizedTable(
        codes=codes[:, :columns].copy(),
        scales=scales,
        zero_points=None if symmetric else zeros,
        bits=bits,
        block=block,
    )


def _best(
    x: FloatArray, weights: FloatArray, bits: int, symmetric: bool, grid: int, scale_dtype: type[np.floating]
) -> tuple[Codes, FloatArray, Codes]:
    """Codes, scales and zero points of least error for blocks x [rows, blocks, block]."""
    top = (1 << bits) - 1
    middle = 1 << (bits - 1)
    low, high = x.min(axis=2), x.max(axis=2)
    best_error = np.full(low.shape, np.inf, np.float32)
    best_scale = np.ones(low.shape, np.float32)
    best_zero = np.full(low.shape, middle, np.float32)

    def attempt(scale: FloatArray, zero: FloatArray) -> None:
        scale = _stored(scale, scale_dtype)
        error = (weights * (x - _reconstruct(x, scale, zero, top)) ** 2).sum(axis=2)
        better = error < best_error
        best_error[better] = error[better]
        best_scale[better] = scale[better]
        best_zero[better] = zero[better]

    for factor in np.linspace(1.0, 0.5, grid, dtype=np.float32):
        if symmetric:
            magnitude = np.maximum(-low, high) * factor
            fixed = np.full(low.shape, middle, np.float32)
            attempt(magnitude / np.float32(middle - 1), fixed)
            # The side that reaches one code further takes the larger tail.
            sign = np.where(-low >= high, np.float32(1), np.float32(-1))
            attempt(sign * magnitude / np.float32(middle), fixed)
        else:
            # A block of one sign needs no zero: but codes do, so the range always spans it.
            down, up = np.minimum(low, 0) * factor, np.maximum(high, 0) * factor
            scale = (up - down) / np.float32(top)
            safe = np.where(scale > 0, scale, np.float32(1))
            attempt(scale, np.clip(np.rint(-down / safe), 0, top).astype(np.float32))
    for _ in range(_REFINEMENTS if grid > 1 else 0):
        steps = _codes(x, best_scale, best_zero, top) - best_zero[..., None]
        energy = (weights * steps * steps).sum(axis=2)
        product = (weights * steps * x).sum(axis=2)
        attempt(np.where(energy > 0, product / np.maximum(energy, 1e-30), best_scale), best_zero.copy())
    return (
        _codes(x, best_scale, best_zero, top).astype(np.uint8),
        best_scale,
        best_zero.astype(np.uint8),
    )


def _stored(scale: FloatArray, dtype: type[np.floating]) -> FloatArray:
    """Scales as they come back from storage; one that would be 0 becomes 1: its codes are zero points."""
    rounded: FloatArray = scale.astype(dtype).astype(np.float32)
    rounded[(rounded == 0) | ~np.isfinite(rounded)] = 1
    return rounded


def _codes(x: FloatArray, scale: FloatArray, zero: FloatArray, top: int) -> FloatArray:
    codes: FloatArray = np.clip(np.rint(x / scale[..., None]) + zero[..., None], 0, top)
    return codes


def _reconstruct(x: FloatArray, scale: FloatArray, zero: FloatArray, top: int) -> FloatArray:
    return (_codes(x, scale, zero, top) - zero[..., None]) * scale[..., None]


def pack(codes: Codes, bits: int) -> Codes:
    """Pack codes uint8 [rows, columns] of 2, 4 or 8 bits along the columns, low-order bits first.

    Gives uint8 [rows, ceil(columns * bits / 8)]; missing columns count as 0.
    """
    if bits not in (2, 4, 8):
        raise ValueError(f"codes of {bits} bits cannot be packed")
    each = 8 // bits
    rows, columns = codes.shape
    padded = np.pad(codes, ((0, 0), (0, -columns % each))).reshape(rows, -1, each)
    packed = np.zeros(padded.shape[:2], np.uint8)
    for place in range(each):
        packed |= padded[:, :, place] << np.uint8(place * bits)
    return packed


def unpack(packed: Codes, bits: int, columns: int) -> Codes:
    """The inverse of ``pack``: uint8 [rows, columns]."""
    each = 8 // bits
    mask = np.uint8((1 << bits) - 1)
    parts = [(packed >> np.uint8(place * bits)) & mask for place in range(each)]
    return np.stack(parts, axis=2).reshape(len(packed), -1)[:, :columns]
