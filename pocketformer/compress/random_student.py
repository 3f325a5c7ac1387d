"""Students of any structure with random weights: what a latency table is measured on. They have no accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pocketformer.runtime.errors import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def random_student(
    model_dir: Path, layers: Sequence[tuple[int, int]], *, vocabulary: int | None = None, seed: int = 0
) -> PreTrainedModel:
    """A classifier of ``model_dir``'s architecture whose layers have these (heads, feed-forward width).

    Hidden size, head size, positions and labels are those of ``model_dir``, of which only the configuration and the
    shapes are used; a layer may have more heads than the original's. ``vocabulary`` rows of the word table, None: as
    many as there. Raises ``InputError`` without layers or for a width below 1, and as ``load_classifier`` does.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    from pocketformer.compress.families import (
        RECORD_KEY,
        encoder_layers,
        family_of,
        family_of_type,
        head_size,
        linear_part,
        set_linear_part,
    )
    from pocketformer.compress.models import load_configuration

    if not layers or min(min(widths) for widths in layers) < 1:
        raise InputError(f"layers are {list(layers)}", hint="Give each at least one head and one neuron.")
    config = load_configuration(model_dir)
    config.pruned_heads = {}
    if hasattr(config, RECORD_KEY):
        delattr(config, RECORD_KEY)
    if vocabulary is not None:
        config.vocab_size = max(vocabulary, (config.pad_token_id or 0) + 1)
    setattr(config, family_of_type(str(config.model_type)).layers_key, len(layers))
    # Its own generator: a run's random numbers go on as if nothing had been made.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        family = family_of(model)
        for layer, (heads, neurons) in zip(encoder_layers(model, family), layers, strict=True):
            size = head_size(layer, family)
            for part, outputs, inputs in (
                *((name, heads * size, None) for name in ("query", "key", "value")),
                ("attention_output", None, heads * size),
                ("ffn_in", neurons, None),
                ("ffn_out", None, neurons),
            ):
                present = linear_part(layer, family, part)
                set_linear_part(layer, family, part, _like(present, outputs, inputs))
            attention = layer.get_submodule(family.attention)
            for name, value in (
                (family.heads_attribute, heads),
                *((width, heads * size) for width in family.width_attributes),
            ):
                if hasattr(attention, name):  # Transformers 5 dropped some of them
                    setattr(attention, name, value)
    return cast("PreTrainedModel", model.eval())


def _like(present: nn.Linear, outputs: int | None, inputs: int | None) -> nn.Linear:
    """A new linear map with other widths where they are given."""
    from torch import nn

    made = nn.Linear(
        inputs or present.in_features,
        outputs or present.out_features,
        bias=cast(Any, present).bias is not None,
    )
    # The size of weights that models are initialised with, lest values grow layer by layer.
    nn.init.normal_(made.weight, std=0.02)
    return made
