"""Texts to token ids and padded batches, for training and for scoring torch models."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.runtime.errors import ModelError

if TYPE_CHECKING:
    import torch

TokenIds = list[int]


class TextEncoding:
    """The fast tokenizer of a model directory, truncating at ``max_length`` token ids."""

    def __init__(self, model_dir: Path, max_length: int) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                str(model_dir), local_files_only=True, trust_remote_code=False, use_fast=True
            )
        except Exception as error:  # tokenizers raises plain Exception for a damaged file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"the tokenizer in {model_dir} cannot be read: {reason}",
                hint="Copy its tokenizer files again, or save them with save_pretrained.",
            ) from error
        self.max_length = max_length
        self.pad_id: int = self._tokenizer.pad_token_id or 0
        self.special_ids = frozenset(self._tokenizer.all_special_ids)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text, special tokens included, not padded."""
        encoded = self._tokenizer(
            list(texts), truncation=True, max_length=self.max_length, return_attention_mask=False
        )
        return list(encoded["input_ids"])

    def ids_for(self, other: TextEncoding) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """Which id ``other`` gives to each id of this tokenizer, int64 [ids]; None when they agree.

        Pieces may share ids there. ``ModelError`` when ``other`` lacks pieces: then it splits texts otherwise,
        and no table of ids can say how.
        """
        mine, theirs = self._ids(), other._ids()
        if mine == theirs:
            return None
        lacking = len(mine.keys() - theirs.keys())
        if lacking:
            raise ModelError(
                f"the student's tokenizer lacks {lacking:,} of the teacher's {len(mine):,} pieces, so it splits "
                "texts into other tokens",
                hint="Distill before the vocabulary step, or prune it with replacement: nearest.",
            )
        table = np.zeros(max(mine.values()) + 1, dtype=np.int64)
        for piece, number in mine.items():
            table[number] = theirs[piece]
        return table

    def _ids(self) -> dict[str, int]:
        ids: dict[str, int] = self._tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True)
        return ids

    def truncation_rate(self, texts: Sequence[str]) -> float:
        """Share of the texts that lose tokens at ``max_length``, in [0, 1]."""
        if not texts:
            return 0.0
        lengths = self._tokenizer(list(texts), truncation=False, return_length=True, verbose=False)["length"]
        return float(np.mean(np.asarray(lengths) > self.max_length))


def pad_batch(rows: Sequence[TokenIds], pad_id: int) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask``, int64 [batch, longest row]."""
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def bucketed_batches(
    lengths: Sequence[int], batch_size: int, rng: random.Random | None = None, *, bucket: int = 20
) -> list[list[int]]:
    """Indices in batches of similar length, so that little is spent on padding.

    With ``rng`` the rows are shuffled, sorted within buckets of ``bucket`` batches, and the batches shuffled;
    without it they come sorted by length.
    """
    order = list(range(len(lengths)))
    if rng is None:
        order.sort(key=lambda index: lengths[index])
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    rng.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_size * bucket):
        chunk = sorted(order[start : start + batch_size * bucket], key=lambda index: lengths[index])
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    rng.shuffle(batches)
    return batches


def iterate_padded(
    rows: Sequence[TokenIds], pad_id: int, batch_size: int = 64
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Yield (indices, padded batch) over all rows, sorted by length."""
    for indices in bucketed_batches([len(row) for row in rows], batch_size):
        yield indices, pad_batch([rows[index] for index in indices], pad_id)


def predict_logits(model: Any, rows: Sequence[TokenIds], pad_id: int, batch_size: int = 64) -> np.ndarray:
    """Logits of a torch classifier in evaluation mode, float32 [rows, labels], in the order of ``rows``."""
    import torch

    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    logits: list[np.ndarray | None] = [None] * len(rows)
    with torch.inference_mode():
        for indices, batch in iterate_padded(rows, pad_id, batch_size):
            out = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
            for index, row in zip(indices, out.float().cpu().numpy(), strict=True):
                logits[index] = row
    if was_training:
        model.train()
    return np.stack([row for row in logits if row is not None])
