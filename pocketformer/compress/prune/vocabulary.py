"""Pruning the vocabulary: fewer embedding rows, and a tokenizer that fits them.

Embeddings are half of a small model. Two ways to do without the pieces that the data never uses:

``split``    the tokenizer forgets them; words that need one are split into shorter kept pieces. The result is
             an ordinary, smaller tokenizer.
``nearest``  the tokenizer keeps every piece and so splits every text as before, but several pieces share one
             id: a piece without a row of its own takes that of the kept piece whose embedding is nearest
             (``nearest_core``). The model stays an ordinary Transformers model with fewer rows.

A WordPiece vocabulary whose ids are not unique loads in ``tokenizers`` and in ``AutoTokenizer`` and encodes
as described. Decoding an id gives any one of its pieces (``Encoding.tokens`` still gives the pieces of the
text). The vocabulary does not survive being written by a tokenizer object: ``save_pretrained``,
``copy.deepcopy``, pickling (and so worker processes that receive a tokenizer) keep one piece for each id.
Copy the files instead, as ``save_classifier`` does. ``len(tokenizer)`` counts pieces, not rows, and no
vocab.txt can express it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.families import family_of
from pocketformer.compress.prune.config import VocabularyConfig
from pocketformer.compress.prune.nearest_core import nearest
from pocketformer.compress.prune.positions import cut_positions
from pocketformer.compress.prune.tokenizer_files import (
    TOKENIZER_JSON,
    all_pieces,
    read_tokenizer,
    with_ids,
    write_renumbered,
)
from pocketformer.compress.prune.vocabulary_core import fill_in_order, needed_pieces, renumber
from pocketformer.runtime.errors import ModelError, VerificationError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

_BLOCK = 4096  # texts encoded at once


@dataclass(frozen=True)
class _Plan:
    """``pieces``: piece -> new id. ``rows``: new embedding rows [rows, width]. The rest is for the report."""

    pieces: dict[str, int]
    rows: np.ndarray[Any, np.dtype[np.float32]]
    needed: int
    similarity: float


def prune_vocabulary(
    model: PreTrainedModel, tokenizer_dir: Path, texts: Sequence[str], config: VocabularyConfig, output: Path
) -> StepResult[PreTrainedModel]:
    """A copy of ``model`` with fewer embedding rows; its tokenizer's files are written to ``output``.

    ``texts`` (train and validation) say which pieces are used; they are not truncated. Kept in any case are
    special and added tokens and all pieces that the texts need, so that every text made of kept pieces has
    the same pieces as before; with "split" also every single character of the vocabulary and its continuation
    form, so that a word made of these never becomes unknown. The rest of ``size`` goes to further pieces in
    the tokenizer's own order, the frequent ones first.

    Metrics: ``pieces_before``, ``rows_before``, ``rows_after``, ``pieces_needed``,
    ``mean_similarity`` (cosine of removed pieces to what they share; 0 with "split"), ``parameters_before``,
    ``parameters_after``.

    Raises ``ModelError`` for a tokenizer other than WordPiece or one that does not fit the model, and
    ``VerificationError`` when the written tokenizer does not split the texts as before.
    """
    import torch
    from torch import nn

    family = family_of(model)
    tokenizer = read_tokenizer(tokenizer_dir)
    _check(tokenizer, tokenizer_dir)
    pieces = all_pieces(tokenizer)
    weight = model.get_input_embeddings().weight.detach()
    if max(pieces.values()) >= weight.shape[0]:
        raise ModelError(
            f"the tokenizer in {tokenizer_dir} has ids up to {max(pieces.values())}, the model "
            f"{weight.shape[0]} rows",
            hint="Use the tokenizer that belongs to the model.",
        )
    special = special_pieces(tokenizer)
    before = _backend(tokenizer)
    seen: set[int] = set()
    for block in _blocks(texts):
        for encoding in before.encode_batch(block):
            seen.update(encoding.ids)
    size = config.size if isinstance(config.size, int) else max(1, round(config.size * len(pieces)))
    prefix = str(tokenizer["model"].get("continuing_subword_prefix", "##"))
    plan = _plan(pieces, seen, special, prefix, size, config, weight.float().cpu().numpy())
    smaller = copy.deepcopy(model)
    new_ids = {number: plan.pieces[piece] for piece, number in pieces.items() if piece in plan.pieces}
    _renumber_config(smaller.config, new_ids)
    pad = getattr(smaller.config, "pad_token_id", None)
    if family.positions_start_after_pad and pad != getattr(model.config, "pad_token_id", None):
        raise ModelError(
            f"the padding token of this {family.name} model would change its id, and its positions "
            "count from it",
            hint="Leave the vocabulary of this model whole.",
        )
    table = nn.Embedding(plan.rows.shape[0], plan.rows.shape[1], padding_idx=pad, device="meta")
    rows = torch.from_numpy(plan.rows).to(device=weight.device, dtype=weight.dtype)
    table.weight = nn.Parameter(rows, requires_grad=model.get_input_embeddings().weight.requires_grad)
    smaller.set_input_embeddings(table.train(model.training))
    smaller.config.vocab_size = plan.rows.shape[0]
    if config.max_positions is not None:
        cut_positions(smaller, config.max_positions)
    _check_texts(before, _backend(with_ids(tokenizer, plan.pieces)), texts)
    write_renumbered(tokenizer_dir, output, tokenizer, plan.pieces, max_length=config.max_positions)
    metrics = {
        "pieces_before": float(len(pieces)),
        "rows_before": float(weight.shape[0]),
        "rows_after": float(plan.rows.shape[0]),
        "pieces_needed": float(plan.needed),
        "mean_similarity": plan.similarity,
        "parameters_before": float(sum(p.numel() for p in model.parameters())),
        "parameters_after": float(sum(p.numel() for p in smaller.parameters())),
    }
    return StepResult(output=smaller, metrics=metrics, notes=_notes(plan, size, config))


def special_pieces(tokenizer: Mapping[str, Any]) -> set[str]:
    """The added tokens and the unknown token of a tokenizer.json."""
    special = {str(token["content"]) for token in tokenizer.get("added_tokens") or ()}
    unknown = tokenizer["model"].get("unk_token")
    return special | ({str(unknown)} if unknown is not None else set())


def _check(tokenizer: Mapping[str, Any], directory: Path) -> None:
    kind = tokenizer["model"].get("type", "of unknown type")
    if kind != "WordPiece":
        raise ModelError(
            f"the tokenizer in {directory} is {kind}; vocabulary pruning is supported for WordPiece",
            hint="Leave the vocabulary whole (no vocabulary step) for this model.",
        )
    pieces = all_pieces(tokenizer)
    if len(set(pieces.values())) != len(pieces):
        raise ModelError(
            f"pieces share ids in {directory / TOKENIZER_JSON}: the vocabulary was pruned already",
            hint="Start from the model whose vocabulary is whole.",
        )


def _backend(tokenizer: Mapping[str, Any]) -> Tokenizer:
    import json

    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(json.dumps(tokenizer))
    backend.no_truncation()
    backend.no_padding()
    return backend


def _blocks(texts: Sequence[str]) -> Iterable[list[str]]:
    for start in range(0, len(texts), _BLOCK):
        # Lone surrogates are no Unicode text and the tokenizer would refuse them.
        yield [text.encode("utf-8", "replace").decode("utf-8") for text in texts[start : start + _BLOCK]]


def _plan(
    pieces: Mapping[str, int],
    seen: set[int],
    special: set[str],
    prefix: str,
    size: int,
    config: VocabularyConfig,
    weight: np.ndarray[Any, np.dtype[np.float32]],
) -> _Plan:
    needed = needed_pieces(pieces, seen, special, characters=config.replacement == "split", prefix=prefix)
    # Special tokens mean something to the code around the model (padding, masks): nothing may share their
    # ids, so at least one row is another's.
    kept = renumber(pieces, fill_in_order(pieces, needed, max(size, len(special) + 1)))
    rows = weight[_old_ids(pieces, kept)]
    removed = sorted((piece for piece in pieces if piece not in kept), key=lambda piece: pieces[piece])
    if config.replacement == "split" or not removed:
        return _Plan(kept, rows, len(needed), 0.0)
    sharable = np.array([number for piece, number in kept.items() if piece not in special], dtype=np.int64)
    index, similarity = nearest(weight[[pieces[piece] for piece in removed]], rows[sharable])
    shared = {piece: int(sharable[i]) for piece, i in zip(removed, index, strict=True)}
    return _Plan(kept | shared, rows, len(needed), float(similarity.mean()))


def _old_ids(pieces: Mapping[str, int], new: Mapping[str, int]) -> list[int]:
    return [pieces[piece] for piece in sorted(new, key=lambda piece: new[piece])]


def _renumber_config(config: Any, new_ids: Mapping[int, int]) -> None:
    for name, value in list(vars(config).items()):
        if name.endswith("_token_id") and isinstance(value, int) and value in new_ids:
            setattr(config, name, new_ids[value])


def _check_texts(before: Tokenizer, after: Tokenizer, texts: Sequence[str]) -> None:
    for block in _blocks(texts):
        for text, old, new in zip(block, before.encode_batch(block), after.encode_batch(block), strict=True):
            if old.tokens != new.tokens:
                raise VerificationError(
                    f"the pruned tokenizer splits {text[:80]!r} into {new.tokens[:12]}, before "
                    f"{old.tokens[:12]}",
                    hint="This tokenizer has rules that pruning does not know; leave its vocabulary whole.",
                )


def _notes(plan: _Plan, size: int, config: VocabularyConfig) -> tuple[str, ...]:
    notes = []
    if plan.needed > size:
        notes.append(f"{plan.needed} rows kept instead of {size}: the texts and special tokens need them")
    if config.replacement == "nearest":
        notes.append(
            "several pieces share one id: copy the tokenizer's files; save_pretrained, pickling and "
            "deepcopy of the "
            "tokenizer keep only one piece for each id"
        )
    return tuple(notes)
