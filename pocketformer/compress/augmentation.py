"""More text for the student to learn on, made from the user's own: it needs no labels, the teacher gives them.

Dropping words: Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks",
section 3.2. Joining the beginning of one text with the end of another shows the teacher's opinion of mixtures.
Swapping a word for one with a similar embedding: Jiao et al. 2020, "TinyBERT", section 3 and algorithm 1, there
with GloVe; here the teacher's own embeddings, so that the student meets words which the data lacks.
Works on token ids, so that nothing is tokenized twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocketformer.compress.encoding import TokenIds
from pocketformer.runtime.errors import RecipeError

if TYPE_CHECKING:
    import torch

_BLOCK = 512  # tokens compared with the whole table at once


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How many altered copies of each text, how much of an epoch they are (``share``), and how far they may stray.

    ``drop`` and ``swap``: share of the tokens that are left out, and of those that are replaced by one of their
    ``neighbours`` nearest tokens; ``splice``: share of the copies that end like another text. ``most``: copies in
    all, since what the teacher says of each is kept on disk and much data needs them less.
    """

    copies: int = 6
    share: float = 0.75
    drop: float = 0.15
    splice: float = 0.5
    swap: float = 0.4
    neighbours: int = 20
    most: int = 40_000

    def __post_init__(self) -> None:
        for name in ("share", "drop", "splice", "swap"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}", hint="Give a share from 0 to 1.")
        if self.copies < 0 or self.neighbours < 1:
            raise RecipeError(
                f"copies is {self.copies}, neighbours {self.neighbours}",
                hint="Give counts: 0 and 1 at least.",
            )


def augment(
    rows: Sequence[TokenIds],
    special_ids: frozenset[int],
    max_length: int,
    config: AugmentationConfig,
    seed: int,
    nearest: Mapping[int, Sequence[int]] | None = None,
) -> list[TokenIds]:
    """``config.copies`` altered copies of every row, ``config.most`` in all; special tokens at both ends stay in place.

    ``nearest`` gives the tokens that may stand for a token (see ``nearest_tokens``); one that is not in it stays.
    """
    rng = random.Random(seed)
    bodies = []
    for row in rows:
        head = next((i for i, token in enumerate(row) if token not in special_ids), len(row))
        tail = next((i for i, token in enumerate(reversed(row)) if token not in special_ids), 0)
        bodies.append((row[:head], row[head : len(row) - tail], row[len(row) - tail :]))
    copies: list[TokenIds] = []
    for _ in range(config.copies):
        left = config.most - len(copies)
        for first, body, last in bodies if left >= len(bodies) else rng.sample(bodies, max(0, left)):
            altered = [token for token in body if rng.random() >= config.drop] or list(body)
            if rng.random() < config.splice:
                other = rng.choice(bodies)[1]
                altered = altered[: rng.randrange(len(altered) + 1)] + other[rng.randrange(len(other) + 1) :]
            altered = altered[: max_length - len(first) - len(last)] or list(body)
            if nearest:
                altered = [
                    rng.choice(nearest[token]) if token in nearest and rng.random() < config.swap else token
                    for token in altered
                ]
            copies.append([*first, *altered, *last])
    return copies


def nearest_tokens(
    embeddings: torch.Tensor, tokens: Iterable[int], count: int, special_ids: frozenset[int]
) -> dict[int, list[int]]:
    """The ``count`` tokens nearest to each of ``tokens`` by cosine, best first; special tokens have none.

    ``embeddings`` is the table [vocabulary, width].
    """
    import torch

    unit = torch.nn.functional.normalize(embeddings.detach().float(), dim=-1)
    known = sorted(set(tokens) - special_ids)
    excluded = torch.tensor(sorted(special_ids), dtype=torch.long)
    nearest: dict[int, list[int]] = {}
    # A tiny vocabulary may not have as many others.
    others = min(count, unit.shape[0] - 1 - len(special_ids))
    if others < 1:
        return nearest
    for start in range(0, len(known), _BLOCK):
        block = torch.tensor(known[start : start + _BLOCK])
        similarity = unit[block] @ unit.T
        similarity[:, excluded] = -torch.inf
        similarity[torch.arange(len(block)), block] = -torch.inf
        for token, row in zip(block.tolist(), similarity.topk(others, dim=-1).indices.tolist(), strict=True):
            nearest[token] = row
    return nearest
