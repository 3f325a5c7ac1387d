"""How much of each block stays so that the whole keeps a cost and errs least: dynamic programming, numbers only.

Source: Frantar and Alistarh 2022, "SPDY", arXiv:2201.13096, section 3.2. Every block takes one of its levels, and costs
and errors of blocks add up. With costs in whole units of limit / ``steps``, the least error of the first i blocks
within u units follows from that of the first i - 1:

    best_i(u) = min over levels l of block i:  best_(i-1)(u - cost_il) + error_il

Costs are rounded up, so what is chosen always keeps the limit; it may miss allocations that fill it to the last
``blocks / steps``. The knapsack is exact otherwise, in time blocks x levels x steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# What a cost may exceed a whole unit by and still be that many: sums of binary fractions are not exact.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Level:
    """How many structures of a block stay, what they cost, and the error that this makes, in any units."""

    kept: int
    cost: float
    error: float


def allocate(
    blocks: Sequence[Sequence[Level]], limit: float, *, steps: int = 5000
) -> tuple[Level, ...] | None:
    """One level of each block, with the least total error among those whose total cost is at most ``limit``.

    Of equal errors the cheaper wins. None when even the cheapest levels cost more.
    """
    if limit <= 0:
        return None
    freely = tuple(min(levels, key=lambda level: (level.error, level.cost)) for levels in blocks)
    if sum(level.cost for level in freely) <= limit:
        return freely  # which rounding up might have refused
    best = np.zeros(steps + 1)
    taken: list[np.ndarray] = []
    units: list[list[int]] = []
    for levels in blocks:
        units.append([int(np.ceil(level.cost / limit * steps - _ROUNDING)) for level in levels])
        following = np.full(steps + 1, np.inf)
        choice = np.zeros(steps + 1, dtype=np.int32)
        # The cheapest first: a later one must be better to replace it.
        for index in np.argsort([level.cost for level in levels], kind="stable"):
            cost = units[-1][index]
            if cost > steps:
                continue
            totals = best[: steps + 1 - cost] + levels[index].error
            better = totals < following[cost:]
            following[cost:][better] = totals[better]
            choice[cost:][better] = index
        best = following
        taken.append(choice)
    if not np.isfinite(best[steps]):
        return None
    # The smallest budget with the same error: what need not be spent is not.
    left = int(np.argmin(best))
    chosen: list[Level] = []
    for levels, costs, choice in zip(reversed(blocks), reversed(units), reversed(taken), strict=True):
        index = int(choice[left])
        chosen.append(levels[index])
        left -= costs[index]
    return tuple(reversed(chosen))
