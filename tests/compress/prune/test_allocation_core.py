"""Dynamic programming against trying every combination."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pocketformer.compress.prune.allocation_core import Level, allocate


def _blocks(seed: int, whole: bool) -> list[list[Level]]:
    rng = np.random.default_rng(seed)
    return [
        [
            Level(
                kept, float(rng.integers(0, 30)) if whole else float(rng.random() * 30), float(rng.random())
            )
            for kept in range(rng.integers(1, 6))
        ]
        for _ in range(4)
    ]


def _exhaustive(blocks: list[list[Level]], limit: float) -> float | None:
    within = [c for c in itertools.product(*blocks) if sum(level.cost for level in c) <= limit]
    return min((sum(level.error for level in c) for c in within), default=None)


@pytest.mark.parametrize("seed", range(12))
def test_finds_the_least_error_of_all_combinations(seed: int) -> None:
    blocks = _blocks(seed, whole=True)
    for limit in (10, 25, 40, 60, 200):
        chosen = allocate(blocks, limit, steps=limit * 3)
        expected = _exhaustive(blocks, limit)
        if expected is None:
            assert chosen is None
            continue
        assert chosen is not None
        assert sum(level.cost for level in chosen) <= limit
        assert sum(level.error for level in chosen) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(6))
def test_coarse_steps_keep_the_limit_and_lose_little(seed: int) -> None:
    blocks, limit, steps = _blocks(seed, whole=False), 45.0, 400
    chosen = allocate(blocks, limit, steps=steps)
    # Rounding up can cost one unit a block, so it is never worse than the best within so much less.
    expected = _exhaustive(blocks, limit * (1 - len(blocks) / steps))
    assert expected is not None
    assert chosen is not None
    assert sum(level.cost for level in chosen) <= limit
    assert sum(level.error for level in chosen) <= expected + 1e-12


def test_nothing_is_spent_on_what_does_not_help() -> None:
    chosen = allocate([[Level(2, 5.0, 0.0), Level(1, 1.0, 0.0)]], 10.0)
    assert chosen == (Level(1, 1.0, 0.0),)


def test_no_limit_can_be_kept_without_anything_to_spend() -> None:
    assert allocate([[Level(1, 1.0, 0.0)]], 0.0) is None
    assert allocate([[Level(1, 1.0, 0.0)], [Level(1, 1.0, 0.0)]], 1.5) is None
