"""What blocks of an encoder cost, so that pruning takes where it saves most. Numbers only; measuring is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class BlockCosts:
    """Cost of a layer's attention by its heads and of its feed-forward network by its width, for one workload.

    Each mapping holds the sizes that were measured, at least one; what lies between is interpolated, what lies
    outside costs as much as the nearest. The ``last`` layer has its own, because graphs compute of it what the head
    reads alone. ``rest`` is what no pruning changes: embeddings, the head, the session. ``unit`` says what all of
    them are in; ``source``, for people, where they come from.
    """

    attention: Mapping[int, float]
    ffn: Mapping[int, float]
    last_attention: Mapping[int, float]
    last_ffn: Mapping[int, float]
    rest: float = 0.0
    unit: str = "ms"
    source: str = field(default="", compare=False)

    def of_attention(self, heads: int, *, last: bool) -> float:
        """Cost of one layer's attention with so many heads, projections included."""
        return _between(self.last_attention if last else self.attention, heads)

    def of_ffn(self, width: int, *, last: bool) -> float:
        """Cost of one layer's feed-forward network of this width."""
        return _between(self.last_ffn if last else self.ffn, width)

    def total(self, heads: Sequence[int], widths: Sequence[int]) -> float:
        """Cost of a whole encoder whose layers have these heads and widths, first to last, with ``rest``."""
        cost = self.rest
        for index, (head_count, width) in enumerate(zip(heads, widths, strict=True)):
            last = index == len(heads) - 1
            cost += self.of_attention(head_count, last=last) + self.of_ffn(width, last=last)
        return cost


def multiply_accumulates(
    *, hidden: int, head_size: int, heads: int, width: int, tokens: int, one_position: bool = True
) -> BlockCosts:
    """What to go by where nothing was measured: millions of multiply-accumulates for a text of ``tokens`` tokens.

    ``heads`` and ``width`` are the largest of any layer. With ``one_position`` the last layer computes keys and values
    for all tokens, and the rest for the first token alone.
    """

    def attention(count: int, queries: int) -> float:
        inner = count * head_size
        projections = 2 * hidden * inner * (tokens + queries)  # keys and values; queries and output
        return (projections + 2 * inner * queries * tokens) / 1e6

    def network(size: int, positions: int) -> float:
        return 2 * hidden * size * positions / 1e6

    last = 1 if one_position else tokens
    return BlockCosts(
        attention={count: attention(count, tokens) for count in (0, heads)},
        ffn={size: network(size, tokens) for size in (0, width)},
        last_attention={count: attention(count, last) for count in (0, heads)},
        last_ffn={size: network(size, last) for size in (0, width)},
        unit="million multiply-accumulates",
        source=f"counted for {tokens} tokens",
    )


def _between(measured: Mapping[int, float], size: int) -> float:
    sizes = sorted(measured)
    return float(np.interp(size, sizes, [measured[at] for at in sizes]))
