from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pocketformer.compress.quantize.embeddings_core import pack, quantize_table, unpack


def squared_error(table: np.ndarray, **how: object) -> float:
    back = quantize_table(table, **how).dequantize()  # type: ignore[arg-type]
    return float(((back - table).astype(np.float64) ** 2).sum())


def brute_force(block: np.ndarray, bits: int, zero: int) -> float:
    """The least squared error over a fine grid of scales of both signs, each with the nearest codes."""
    top = float(np.abs(block).max())
    magnitudes = np.linspace(top / 40, 2.5 * top, 4000) / 2 ** (bits - 1)
    scales = np.concatenate([magnitudes, -magnitudes])[:, None]
    codes = np.clip(np.rint(block / scales) + zero, 0, 2**bits - 1)
    return float((((codes - zero) * scales - block) ** 2).sum(axis=1).min())


@pytest.mark.parametrize("seed", range(6))
def test_symmetric_error_is_near_the_best_of_all_scales(seed: int) -> None:
    block = np.random.default_rng(seed).standard_normal((1, 16)).astype(np.float32)
    found = squared_error(block, bits=4, block=16)
    assert found <= 1.1 * brute_force(block, 4, 8) + 1e-7


@pytest.mark.parametrize("seed", range(6))
def test_asymmetric_error_is_near_the_best_of_all_scales_and_zero_points(seed: int) -> None:
    block = np.random.default_rng(seed).standard_normal((1, 16)).astype(np.float32) + 0.4
    found = squared_error(block, bits=4, block=16, symmetric=False)
    assert found <= 1.2 * min(brute_force(block, 4, zero) for zero in range(16)) + 1e-7


def test_codes_of_two_bits_are_the_best_of_all_codes() -> None:
    """For four values every assignment of codes can be tried, each with its least-squares scale."""
    block = np.array([[0.9, -0.2, 0.35, -1.1]], np.float32)
    best = np.inf
    for codes in itertools.product(range(-2, 2), repeat=4):
        steps = np.array(codes, np.float64)
        if steps @ steps > 0:
            scale = steps @ block[0] / (steps @ steps)
            best = min(best, float(((scale * steps - block[0]) ** 2).sum()))
    assert squared_error(block, bits=2, block=4, grid=64) <= best * 1.001


tables = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 40)),
    elements=st.floats(-100, 100, width=32),
)


@settings(max_examples=60)
@given(tables, st.sampled_from([2, 4, 8]), st.sampled_from([4, 16]), st.booleans())
def test_searching_never_loses_to_the_extremes_and_stays_within_a_step(
    table: np.ndarray, bits: int, block: int, symmetric: bool
) -> None:
    how = {"bits": bits, "block": block, "symmetric": symmetric}
    plain, searched = squared_error(table, **how, grid=1), squared_error(table, **how, grid=16)
    assert searched <= plain * 1.0001 + 1e-9
    back = quantize_table(table, **how, grid=1).dequantize()  # type: ignore[arg-type]
    # Rounding moves a value by half a step; a clipped tail and a rounded zero point by another half.
    span = 2 * np.abs(table).max() / (2**bits - 2)
    assert np.abs(back - table).max() <= span * 1.001 + 1e-6


@settings(max_examples=60)
@given(arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 21))), st.sampled_from([2, 4, 8]))
def test_packing_turns_back(codes: np.ndarray, bits: int) -> None:
    codes = codes & np.uint8(2**bits - 1)
    packed = pack(codes, bits)
    assert packed.shape == (codes.shape[0], -(-codes.shape[1] * bits // 8))
    np.testing.assert_array_equal(unpack(packed, bits, codes.shape[1]), codes)


def test_the_first_column_is_in_the_low_bits() -> None:
    assert pack(np.array([[1, 2, 15]], np.uint8), 4).tolist() == [[0x21, 0x0F]]


def test_constant_and_zero_blocks_survive() -> None:
    table = np.array([[0.0] * 4 + [3.0] * 4 + [-2.0] * 4], np.float32)
    for symmetric in (True, False):
        back = quantize_table(table, bits=4, block=4, symmetric=symmetric).dequantize()
        np.testing.assert_allclose(back, table, atol=1e-6)


def test_scales_are_rounded_to_their_storage_before_codes_are_chosen() -> None:
    table = np.random.default_rng(3).standard_normal((4, 32)).astype(np.float32)
    found = quantize_table(table, bits=4, block=32, scale_dtype=np.float16)
    np.testing.assert_array_equal(found.scales, found.scales.astype(np.float16).astype(np.float32))


def test_wrong_settings_and_values_are_refused() -> None:
    table = np.ones((2, 8), np.float32)
    with pytest.raises(ValueError, match="9 bits"):
        quantize_table(table, bits=9, block=8)
    table[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        quantize_table(table, bits=4, block=8)
    with pytest.raises(ValueError, match="3 bits"):
        pack(np.zeros((1, 1), np.uint8), 3)
