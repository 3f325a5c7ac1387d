"""Depth: a model that has only some of the encoder's layers.

The usual start of a student (DistilBERT, Sanh et al. 2019, arXiv:1910.01108; "poor man's BERT", Sajjad et al.
2020, arXiv:2004.03844): layers are copied from the teacher, evenly spread, and then trained.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from pocketformer.compress.families import base_of, encoder_layers, family_of, kept_heads
from pocketformer.compress.prune.removal import record_shapes
from pocketformer.runtime.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def default_layers(total: int, keep: int) -> tuple[int, ...]:
    """Evenly spread layer numbers that end with the last one: 3 of 6 are 1, 3, 5.

    Each is then the layer whose output the student's layer learns to give (Jiao et al. 2020, TinyBERT, equation 6
    with the uniform mapping). Raises ``RecipeError`` unless 1 <= keep <= total.
    """
    if not 1 <= keep <= total:
        raise RecipeError(f"cannot keep {keep} of {total} layers", hint=f"Choose a number from 1 to {total}.")
    return tuple((position + 1) * total // keep - 1 for position in range(keep))


def chosen_layers(wanted: Sequence[int] | int | float, total: int) -> tuple[int, ...]:
    """Layer numbers from what a user says: the numbers themselves, how many (int), or which share (float)."""
    if isinstance(wanted, int):
        return default_layers(total, wanted)
    if isinstance(wanted, float):
        return default_layers(total, max(1, round(wanted * total)))
    return tuple(wanted)


def select_layers(model: PreTrainedModel, layer_indices: Sequence[int]) -> PreTrainedModel:
    """A copy of ``model`` with only the given encoder layers, in the given order; the original stays as it
    is.

    Raises ``RecipeError`` for a layer that does not exist or is named twice, and ``ModelError`` for an
    architecture that is not supported.
    """
    from torch import nn

    family = family_of(model)
    layers = encoder_layers(model, family)
    if not layer_indices:
        raise RecipeError("no layer is left", hint="Name at least one layer.")
    if len(set(layer_indices)) != len(layer_indices) or not all(0 <= i < len(layers) for i in layer_indices):
        raise RecipeError(
            f"cannot select layers {list(layer_indices)} of a model with {len(layers)} layers",
            hint=f"Name each layer once, numbers from 0 to {len(layers) - 1}.",
        )
    numbers = kept_heads(model, family)
    # Only what stays is copied: the memo makes deepcopy pass over the layers that go.
    memo = {id(layer): None for index, layer in enumerate(layers) if index not in set(layer_indices)}
    smaller = copy.deepcopy(model, cast("dict[int, Any]", memo))
    parent_path, _, name = family.layers.rpartition(".")
    copied = encoder_layers(smaller, family)
    setattr(
        base_of(smaller).get_submodule(parent_path), name, nn.ModuleList([copied[i] for i in layer_indices])
    )
    for index, layer in enumerate(encoder_layers(smaller, family)):
        attention = layer.get_submodule(family.attention)
        if hasattr(attention, "layer_idx"):
            cast(Any, attention).layer_idx = index
    record_shapes(smaller, family, [numbers[i] for i in layer_indices])
    return smaller
