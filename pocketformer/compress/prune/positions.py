"""Cutting the table of position embeddings to the lengths that are really used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pocketformer.compress.families import base_of, family_of
from pocketformer.runtime.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def position_capacity(model: PreTrainedModel) -> int:
    """The longest input in token ids that the position embeddings allow."""
    family = family_of(model)
    rows = int(cast(Any, base_of(model)).embeddings.position_embeddings.num_embeddings)
    return rows - _offset(model) if family.positions_start_after_pad else rows


def cut_positions(model: PreTrainedModel, max_positions: int) -> None:
    """Keep the position embeddings of the first ``max_positions`` tokens; changes ``model`` in place.

    Outputs for inputs up to that length stay equal; a longer table than there is stays as it is. RoBERTa
    counts from ``pad_token_id + 1``, so its table keeps that many rows more. Raises ``RecipeError`` below 1
    and ``ModelError`` for relative position embeddings.
    """
    from torch import nn

    if max_positions < 1:
        raise RecipeError(f"max_positions is {max_positions}", hint="Keep at least one position.")
    if max_positions >= position_capacity(model):
        return
    if getattr(model.config, "position_embedding_type", "absolute") != "absolute":
        raise ModelError(
            "relative position embeddings cannot be cut", hint="Leave max_positions out for this model."
        )
    offset = _offset(model) if family_of(model).positions_start_after_pad else 0
    rows = max_positions + offset
    embeddings = cast(Any, base_of(model)).embeddings
    table = embeddings.position_embeddings
    smaller = nn.Embedding(rows, table.embedding_dim, padding_idx=table.padding_idx, device="meta")
    smaller.weight = nn.Parameter(
        table.weight.detach()[:rows].clone(), requires_grad=table.weight.requires_grad
    )
    embeddings.position_embeddings = smaller.train(table.training)
    for name in ("position_ids", "token_type_ids"):
        if hasattr(embeddings, name):
            buffer = getattr(embeddings, name)[:, :rows].clone()
            embeddings.register_buffer(name, buffer, persistent=False)
    model.config.max_position_embeddings = rows


def _offset(model: PreTrainedModel) -> int:
    return (
        int(cast(Any, base_of(model)).embeddings.padding_idx) + 1
        if hasattr(cast(Any, base_of(model)).embeddings, "padding_idx")
        else 0
    )
