"""More text for the student to learn on, made from the user's own: it needs no labels, the teacher gives them.

Dropping words: Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks",
section 3.2. Joining the beginning of one text with the end of another shows the teacher's opinion of mixtures.
Works on token ids, so that nothing is tokenized twice.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pocketformer.compress.encoding import TokenIds


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How many altered copies of each text, and how far they may stray."""

    copies: int = 4
    drop: float = 0.15
    splice: float = 0.3


def augment(
    rows: Sequence[TokenIds],
    special_ids: frozenset[int],
    max_length: int,
    config: AugmentationConfig,
    seed: int,
) -> list[TokenIds]:
    """``config.copies`` altered copies of every row; leading and trailing special tokens stay in place."""
    rng = random.Random(seed)
    bodies = []
    for row in rows:
        head = next((i for i, token in enumerate(row) if token not in special_ids), len(row))
        tail = next((i for i, token in enumerate(reversed(row)) if token not in special_ids), 0)
        bodies.append((row[:head], row[head : len(row) - tail], row[len(row) - tail :]))
    copies: list[TokenIds] = []
    for _ in range(config.copies):
        for first, body, last in bodies:
            altered = [token for token in body if rng.random() >= config.drop] or list(body)
            if rng.random() < config.splice:
                other = rng.choice(bodies)[1]
                altered = altered[: rng.randrange(len(altered) + 1)] + other[rng.randrange(len(other) + 1) :]
            altered = altered[: max_length - len(first) - len(last)] or list(body)
            copies.append([*first, *altered, *last])
    return copies
