"""The shapes that models are timed on: real inputs one at a time, and fixed shapes filled with real tokens.

A fixed shape has a full mask, so that no candidate gains from skipping padding that others compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketformer.runtime.errors import InputError

Feeds = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Workload:
    """``batch`` rows of ``sequence`` tokens a call; ``sequence`` None: real inputs, each as long as it is."""

    name: str
    batch: int
    sequence: int | None


REAL = Workload(name="real", batch=1, sequence=None)
WORKLOADS = (
    REAL,
    Workload(name="1x32", batch=1, sequence=32),
    Workload(name="1x128", batch=1, sequence=128),
    Workload(name="8x128", batch=8, sequence=128),
)

REAL_INPUTS = 200
"""How many real texts are timed, the first ones."""
# Real texts differ in length and want more calls, long shapes fewer.
_ROUND_SHARES = {"real": 4.0, "1x32": 1.0, "1x128": 1.0, "8x128": 0.5}


def rounds_of(workload: str, rounds: int, inputs: int) -> int:
    """How many rounds the workload of this name is timed in when ``rounds`` are asked for: each input once at least."""
    return max(inputs, round(rounds * _ROUND_SHARES[workload]))


def workloads_within(positions: int) -> tuple[Workload, ...]:
    """The workloads that a model of this many positions can run."""
    return tuple(w for w in WORKLOADS if w.sequence is None or w.sequence <= positions)


def build_feeds(workload: Workload, token_ids: Sequence[Sequence[int]]) -> list[Feeds]:
    """What a workload's calls are fed: one feed for each real input, or a single one of the fixed shape.

    ``token_ids`` are the ids of real texts, special tokens included, without padding, truncated to what the
    model takes. ``InputError`` when there are none.
    """
    if workload.sequence is not None:
        return [fill(token_ids, workload.batch, workload.sequence)]
    rows = [row for row in token_ids if len(row) > 0]
    if not rows:
        raise InputError("there are no real inputs to measure on", hint="Give at least one text.")
    return [_feeds(np.asarray(row, dtype=np.int64)[np.newaxis, :]) for row in rows]


def fill(token_ids: Sequence[Sequence[int]], batch: int, sequence: int) -> Feeds:
    """int64 [batch, sequence] ``input_ids`` of real tokens, a mask of ones, and ``token_type_ids`` of zeros.

    Each sequence begins with another text and goes on with the texts after it until it is full.
    """
    lengths = [len(row) for row in token_ids]
    if sum(lengths) == 0 or batch < 1 or sequence < 1:
        raise InputError(
            f"cannot fill {batch} x {sequence} tokens from {len(lengths)} texts",
            hint="Give at least one text, and a shape of at least 1 x 1.",
        )
    stream = np.concatenate([np.asarray(row, dtype=np.int64) for row in token_ids])
    starts = np.cumsum([0, *lengths])[np.arange(batch) * len(lengths) // batch]
    positions = starts[:, np.newaxis] + np.arange(sequence)[np.newaxis, :]
    return _feeds(stream.take(positions, mode="wrap"))


def padded_feeds(rows: Sequence[Sequence[int]], pad_id: int) -> Feeds:
    """One batch of token ids, padded on the right to the longest."""
    ids = np.full((len(rows), max(map(len, rows))), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for position, row in enumerate(rows):
        ids[position, : len(row)] = row
        mask[position, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _feeds(input_ids: npt.NDArray[np.int64]) -> Feeds:
    return {
        "input_ids": input_ids,
        "attention_mask": np.ones_like(input_ids),
        "token_type_ids": np.zeros_like(input_ids),
    }
