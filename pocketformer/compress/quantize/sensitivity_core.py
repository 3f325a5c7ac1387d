"""Which products of a network stay in float32: measured one by one, chosen greedily. Figures in, decisions out.

The errors that quantized products do to a network's answers about add up while they are small (Dong et al. 2019,
HAWQ; Frantar and Alistarh 2022, SPDY). What leaves the least error for a cost is then a knapsack, whose greedy
solution takes by error per cost; its length is found by measuring whole networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def by_worth(errors: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Indices of the products, first the one whose float32 form saves most error for its cost (> 0)."""
    return sorted(range(len(errors)), key=lambda index: (-errors[index] / costs[index], index))


def fewest(most: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest count of 1 to ``most`` for which ``holds``, if it holds for all larger ones; None: not for ``most``.

    Few are the rule and each question costs: counts are doubled until one holds, then halved in between, so that about
    2 log2(answer) are asked. Where ``holds`` is not monotone the answer still holds, but a smaller one may too.
    """
    if most < 1:
        return None
    failed, count = 0, 1
    while not holds(count):
        if count == most:
            return None
        failed, count = count, min(2 * count, most)
    while count - failed > 1:
        middle = (failed + count) // 2
        failed, count = (failed, middle) if holds(middle) else (middle, count)
    return count
