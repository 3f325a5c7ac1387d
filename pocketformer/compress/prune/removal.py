"""Removing heads, neurons and layers from a model: rows and columns are cut out, nothing is masked.

Torch only; Transformers' own ``prune_heads`` is not used, because version 5 no longer has it. What is written
for it is ``config.pruned_heads``, from which Transformers up to 4.57 rebuilds a pruned model by itself.

The eager and the sdpa attention of these families read the number of heads, the head size and their product
from the attention module and never from the configuration, so setting these on the module is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from pocketformer.compress.families import (
    RECORD_KEY,
    EncoderFamily,
    encoder_layers,
    family_of,
    ffn_width,
    head_count,
    head_size,
    kept_heads,
    linear_part,
    set_linear_part,
)

if TYPE_CHECKING:
    import torch
    from torch import nn


def keep_parts(model: nn.Module, heads: Sequence[Iterable[int]], neurons: Sequence[Iterable[int]]) -> None:
    """Keep only the named heads and neurons of each layer; changes ``model`` in place.

    Args:
        model: a Transformers encoder of a supported family.
        heads: for each layer the positions (0 is the first head that the layer has now) to keep.
        neurons: for each layer the positions of the feed-forward neurons to keep.

    Raises:
        ModelError: the family is not supported.
        ValueError: a list is missing, empty, or names a position that the layer does not have.
    """
    family = family_of(model)
    layers = encoder_layers(model, family)
    if len(heads) != len(layers) or len(neurons) != len(layers):
        raise ValueError(
            f"{len(layers)} layers, but {len(heads)} lists of heads and {len(neurons)} of neurons"
        )
    numbers = kept_heads(model, family)
    kept_numbers: list[list[int]] = []
    for layer, names, some_heads, some_neurons in zip(layers, numbers, heads, neurons, strict=True):
        keep = _positions(some_heads, head_count(layer, family), "head")
        _cut_heads(layer, family, keep)
        _cut_neurons(layer, family, _positions(some_neurons, ffn_width(layer, family), "neuron"))
        kept_numbers.append([names[position] for position in keep])
    record_shapes(model, family, kept_numbers)


def record_shapes(model: nn.Module, family: EncoderFamily, kept: Sequence[Sequence[int]]) -> None:
    """Write the shapes into the configuration, so that saving the model by any means keeps them.

    ``kept`` are the original head numbers of each layer, out of ``config.num_attention_heads``, which pruning
    leaves as it is because the head size follows from it. Sets the number of layers, the (largest)
    feed-forward width, ``pruned_heads`` for Transformers up to 4.57 and the project's own record; a model
    that is uniform and has all its heads needs neither of the last two and loses them.
    """
    config = cast(Any, model).config
    layers = encoder_layers(model, family)
    widths = [ffn_width(layer, family) for layer in layers]
    setattr(config, family.layers_key, len(layers))
    setattr(config, family.ffn_key, max(widths))
    removed = {
        index: sorted(set(range(int(config.num_attention_heads))) - set(names))
        for index, names in enumerate(kept)
    }
    config.pruned_heads = {index: gone for index, gone in removed.items() if gone}
    for index, layer in enumerate(layers):
        cast(Any, layer.get_submodule(family.pruned_holder)).pruned_heads = set(removed[index])
    if len(set(widths)) == 1 and not config.pruned_heads:
        if hasattr(config, RECORD_KEY):
            delattr(config, RECORD_KEY)
        return
    rows = [{"heads": list(names), "ffn": width} for names, width in zip(kept, widths, strict=True)]
    setattr(config, RECORD_KEY, {"layers": rows})


def _positions(wanted: Iterable[int], count: int, what: str) -> list[int]:
    positions = sorted(set(wanted))
    if not positions:
        raise ValueError(f"at least one {what} of each layer must stay")
    if positions[0] < 0 or positions[-1] >= count:
        raise ValueError(f"{what} {positions[-1]} asked for, but the layer has {count}")
    return positions


def _cut_heads(layer: nn.Module, family: EncoderFamily, keep: Sequence[int]) -> None:
    size, present = head_size(layer, family), head_count(layer, family)
    if len(keep) < present:
        rows = [head * size + offset for head in keep for offset in range(size)]
        for part in ("query", "key", "value"):
            set_linear_part(layer, family, part, select_outputs(linear_part(layer, family, part), rows))
        output = select_inputs(linear_part(layer, family, "attention_output"), rows)
        set_linear_part(layer, family, "attention_output", output)
    attention = layer.get_submodule(family.attention)
    for name, value in (
        (family.heads_attribute, len(keep)),
        *((w, len(keep) * size) for w in family.width_attributes),
    ):
        if hasattr(attention, name):  # Transformers 5 dropped some of them
            setattr(attention, name, value)


def _cut_neurons(layer: nn.Module, family: EncoderFamily, keep: Sequence[int]) -> None:
    if len(keep) < ffn_width(layer, family):
        set_linear_part(layer, family, "ffn_in", select_outputs(linear_part(layer, family, "ffn_in"), keep))
        set_linear_part(layer, family, "ffn_out", select_inputs(linear_part(layer, family, "ffn_out"), keep))


def select_outputs(linear: nn.Linear, rows: Sequence[int]) -> nn.Linear:
    """A new linear map with only the given outputs; weight [outputs, inputs], bias [outputs]."""
    import torch

    index = torch.as_tensor(rows, dtype=torch.long, device=linear.weight.device)
    bias = None if linear.bias is None else linear.bias.detach().index_select(0, index)
    return _linear(linear, linear.weight.detach().index_select(0, index), bias)


def select_inputs(linear: nn.Linear, columns: Sequence[int]) -> nn.Linear:
    """A new linear map that reads only the given inputs; the bias stays as it is."""
    import torch

    index = torch.as_tensor(columns, dtype=torch.long, device=linear.weight.device)
    bias = None if linear.bias is None else linear.bias.detach().clone()
    return _linear(linear, linear.weight.detach().index_select(1, index), bias)


def _linear(like: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    from torch import nn

    outputs, inputs = weight.shape
    # Built on the meta device: its random initial values would only be thrown away.
    linear = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.contiguous(), requires_grad=like.weight.requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=like.bias.requires_grad)
    return linear.train(like.training)
