"""Where the encoder families of Transformers keep their parts, so that one method serves them all.

A family says which modules of an encoder layer are query, key, value, attention output and the two
linear maps of the feed-forward network, and which attributes and configuration keys hold their widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pocketformer.runtime.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

RECORD_KEY = "pocketformer"
"""The key of config.json under which a pruned model's shapes stand: {"layers": [{"heads": [...], "ffn":
n}]}."""


@dataclass(frozen=True)
class EncoderFamily:
    """Paths of the parts, dotted and relative to ``model.base_model`` or to one encoder layer.

    ``layers`` and the embedding paths start at the base model; ``attention`` to ``ffn_out`` start at a layer.
    ``heads_attribute`` and ``width_attributes`` are attributes of the module at ``attention`` (number of
    heads; heads x head size). Names that end in ``_key`` are attributes of the configuration. ``layer_norms`` stand in
    the order of the computation; ``head_dense`` and ``head_out`` are the two products of the classification head, from
    the model's root.
    """

    name: str
    model_types: tuple[str, ...]
    layers: str
    attention: str
    query: str
    key: str
    value: str
    attention_output: str
    ffn_in: str
    ffn_out: str
    pruned_holder: str
    heads_attribute: str = "num_attention_heads"
    width_attributes: tuple[str, ...] = ("all_head_size",)
    layers_key: str = "num_hidden_layers"
    ffn_key: str = "intermediate_size"
    embeddings: str = "embeddings"
    positions_start_after_pad: bool = False
    layer_norms: tuple[str, ...] = ("attention.output.LayerNorm", "output.LayerNorm")
    head_dense: str = "classifier.dense"
    head_out: str = "classifier.out_proj"
    hidden_key: str = "hidden_size"
    heads_key: str = "num_attention_heads"
    linear_parts: tuple[str, ...] = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")


def _bert_like(
    name: str, model_types: tuple[str, ...], *, positions_start_after_pad: bool = False, **head: str
) -> EncoderFamily:
    return EncoderFamily(
        name=name,
        model_types=model_types,
        layers="encoder.layer",
        attention="attention.self",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        attention_output="attention.output.dense",
        ffn_in="intermediate.dense",
        ffn_out="output.dense",
        pruned_holder="attention",
        positions_start_after_pad=positions_start_after_pad,
        **head,  # type: ignore[arg-type]
    )


FAMILIES: tuple[EncoderFamily, ...] = (
    _bert_like("bert", ("bert",), head_dense="bert.pooler.dense", head_out="classifier"),
    _bert_like("roberta", ("roberta", "xlm-roberta", "camembert"), positions_start_after_pad=True),
    _bert_like("electra", ("electra",)),
    EncoderFamily(
        name="distilbert",
        model_types=("distilbert",),
        layers="transformer.layer",
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        ffn_in="ffn.lin1",
        ffn_out="ffn.lin2",
        pruned_holder="attention",
        heads_attribute="n_heads",
        width_attributes=("dim",),
        layers_key="n_layers",
        ffn_key="hidden_dim",
        layer_norms=("sa_layer_norm", "output_layer_norm"),
        head_dense="pre_classifier",
        head_out="classifier",
        hidden_key="dim",
        heads_key="n_heads",
    ),
)
"""The families that can be pruned; add one here and in the tests."""


def family_of_type(model_type: str) -> EncoderFamily:
    """The family of a ``model_type`` of config.json; ``ModelError`` names what is supported."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    supported = ", ".join(t for family in FAMILIES for t in family.model_types)
    raise ModelError(
        f"models of type '{model_type}' cannot be pruned",
        hint=f"Supported are encoders of type {supported}.",
    )


def family_of(model: nn.Module) -> EncoderFamily:
    """The family of a loaded Transformers model.

    Raises ``ModelError`` when the type is not supported, and when the modules are not where the family says
    (a custom attention class, for instance), naming the first part that is missing.
    """
    config = getattr(model, "config", None)
    if config is None:
        raise ModelError(
            f"a {type(model).__name__} has no Transformers configuration", hint="Pass a Transformers model."
        )
    family = family_of_type(str(getattr(config, "model_type", "")))
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise ModelError(
            f"this {family.name} model is configured as a decoder and cannot be pruned",
            hint="Use an encoder (is_decoder and add_cross_attention false).",
        )
    for layer in encoder_layers(model, family):
        for path in (family.attention, *(getattr(family, name) for name in family.linear_parts)):
            try:
                layer.get_submodule(path)
            except AttributeError as error:
                raise ModelError(
                    f"a layer of this {family.name} model has no part '{path}'",
                    hint="Custom layers are not supported; use the architecture of Transformers itself.",
                ) from error
    return family


def base_of(model: nn.Module) -> nn.Module:
    """The encoder under a task head (the model itself when it has no head)."""
    return cast("nn.Module", getattr(model, "base_model", model))


def encoder_layers(model: nn.Module, family: EncoderFamily) -> Sequence[nn.Module]:
    """The encoder's layers, first to last."""
    try:
        return cast("Sequence[nn.Module]", base_of(model).get_submodule(family.layers))
    except AttributeError as error:
        raise ModelError(
            f"this {family.name} model has no layers at '{family.layers}'",
            hint="Models with a custom encoder are not supported.",
        ) from error


def linear_part(layer: nn.Module, family: EncoderFamily, part: str) -> nn.Linear:
    """One linear map of a layer; ``part`` is one of ``family.linear_parts``."""
    return cast("nn.Linear", layer.get_submodule(getattr(family, part)))


def set_linear_part(layer: nn.Module, family: EncoderFamily, part: str, module: nn.Linear) -> None:
    """Put ``module`` in the place of one linear map of a layer."""
    parent, _, name = getattr(family, part).rpartition(".")
    setattr(layer.get_submodule(parent), name, module)


@dataclass(frozen=True)
class LayerParts:
    """The linear maps of one encoder layer, as they are now."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Linear
    ffn_in: nn.Linear
    ffn_out: nn.Linear


def layer_parts(model: nn.Module) -> list[LayerParts]:
    """The linear maps of every layer, first to last; ``ModelError`` for an architecture that is not
    supported."""
    family = family_of(model)
    return [
        LayerParts(**{part: linear_part(layer, family, part) for part in family.linear_parts})
        for layer in encoder_layers(model, family)
    ]


def head_count(layer: nn.Module, family: EncoderFamily) -> int:
    """How many attention heads the layer has now."""
    attention = layer.get_submodule(family.attention)
    return int(linear_part(layer, family, "query").out_features) // int(
        cast(Any, attention).attention_head_size
    )


def head_size(layer: nn.Module, family: EncoderFamily) -> int:
    """Width of one attention head; pruning never changes it."""
    return int(cast(Any, layer.get_submodule(family.attention)).attention_head_size)


def ffn_width(layer: nn.Module, family: EncoderFamily) -> int:
    """How many neurons the layer's feed-forward network has now."""
    return int(linear_part(layer, family, "ffn_in").out_features)


def kept_heads(model: nn.Module, family: EncoderFamily) -> list[list[int]]:
    """For each layer the numbers that its heads had before any pruning, ascending."""
    record = getattr(cast(Any, model).config, RECORD_KEY, None)
    layers = encoder_layers(model, family)
    if isinstance(record, dict) and len(record.get("layers", ())) == len(layers):
        return [[int(head) for head in row["heads"]] for row in record["layers"]]
    removed = getattr(cast(Any, model).config, "pruned_heads", None) or {}
    numbers: list[list[int]] = []
    for index, layer in enumerate(layers):
        gone = {int(head) for head in removed.get(index, removed.get(str(index), ()))}
        before = head_count(layer, family) + len(gone)
        numbers.append([head for head in range(before) if head not in gone])
    return numbers
