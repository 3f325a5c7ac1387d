"""A model of smaller hidden width: everything that reads or writes the hidden state is projected.

A map that reads the state x is applied to P^T x (weight W P), one that writes it gives P^T of what it gave (weight
P^T W), with P [hidden, width] from ``hidden_core.principal_subspace`` of the model's own hidden states. Layer norms are
fitted in the order of the computation, each on what the layers before it, already narrowed, give.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pocketformer.compress.families import (
    EncoderFamily,
    base_of,
    encoder_layers,
    family_of,
    head_count,
    head_size,
    linear_part,
    set_linear_part,
)
from pocketformer.compress.prune.hidden_core import fit_scale_and_shift, principal_subspace
from pocketformer.compress.prune.removal import record_shapes, select_inputs, select_outputs
from pocketformer.runtime.errors import DataError, ModelError, RecipeError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    Batch = Mapping[str, torch.Tensor]

_READ = ("query", "key", "value", "ffn_in")
_WRITTEN = ("attention_output", "ffn_out")


def hidden_width(model: PreTrainedModel) -> int:
    """The width of the model's hidden state."""
    return int(cast(Any, model).config.hidden_size)


def widest_heads(model: PreTrainedModel) -> int:
    """How many heads the layer with the most of them has."""
    family = family_of(model)
    return max(head_count(layer, family) for layer in encoder_layers(model, family))


@dataclass(frozen=True)
class Narrowed:
    """The narrower model, and the directions [hidden before, hidden now] of the old state that it keeps."""

    model: PreTrainedModel
    directions: np.ndarray[Any, np.dtype[np.float32]]


def narrow_hidden(model: PreTrainedModel, width: int, batches: Sequence[Batch]) -> StepResult[Narrowed]:
    """A copy of ``model`` with hidden states of ``width``; the original stays as it is.

    ``batches`` (without labels) are what the subspace and the norms are fitted on. ``width`` has to be a multiple of
    the head size and no less than the heads of any layer need, because Transformers reads the head size off hidden
    width and number of heads. Metrics: ``hidden_before``, ``hidden_after``, ``variance_kept``. Raises ``RecipeError``
    for another width, ``ModelError`` for a model whose embeddings have a width of their own, ``DataError`` without
    batches.
    """
    import torch

    family = family_of(model)
    layers = encoder_layers(model, family)
    before, size = hidden_width(model), head_size(layers[0], family)
    least = size * widest_heads(model)
    if width % size or not least <= width <= before:
        raise RecipeError(
            f"the hidden width cannot become {width}",
            hint=f"Choose a multiple of the head size {size}, from {least} (what the heads of one layer take) "
            f"to {before}.",
        )
    if hasattr(base_of(model), "embeddings_project"):
        raise ModelError(
            "this model's embeddings have a width of their own, which cannot be narrowed yet",
            hint="Leave `hidden` out for this model.",
        )
    if not batches:
        raise DataError("no examples to find the hidden directions with", hint="Give at least one text.")
    smaller = copy.deepcopy(model).eval()
    with torch.inference_mode():
        directions, kept = principal_subspace(_second_moment(model, batches), width)
    projection = torch.from_numpy(directions).to(torch.float32)
    _project(smaller, family, projection)
    _fit_norms(model.eval(), smaller, family, projection, batches)
    _narrow_head(smaller, family, width)
    _record(smaller, family, width, size)
    return StepResult(
        output=Narrowed(smaller, projection.numpy()),
        metrics={"hidden_before": float(before), "hidden_after": float(width), "variance_kept": kept},
        notes=(f"hidden width {before} to {width}: {kept:.1%} of what hidden states vary by is kept",),
    )


def _second_moment(model: PreTrainedModel, batches: Sequence[Batch]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean of x x^T of the states after the embeddings and after each layer, each place counted alike."""
    width = hidden_width(model)
    total = np.zeros((width, width))
    for batch in batches:
        keep = batch["attention_mask"].bool()
        for states in base_of(model)(**batch, output_hidden_states=True).hidden_states:
            rows = states[keep].double()
            rows = rows / rows.square().mean().sqrt()
            total += (rows.T @ rows).numpy()
    return total


def _project(model: nn.Module, family: EncoderFamily, projection: torch.Tensor) -> None:
    from torch import nn

    embeddings = base_of(model).get_submodule(family.embeddings)
    for name, table in list(embeddings.named_children()):
        if isinstance(table, nn.Embedding):
            narrow = nn.Embedding(table.num_embeddings, projection.shape[1], padding_idx=table.padding_idx)
            narrow.weight = nn.Parameter(table.weight.detach() @ projection)
            setattr(embeddings, name, narrow)
    for layer in encoder_layers(model, family):
        for part in _READ:
            linear = linear_part(layer, family, part)
            set_linear_part(layer, family, part, _linear(linear.weight.detach() @ projection, linear.bias))
        for part in _WRITTEN:
            linear = linear_part(layer, family, part)
            bias = None if linear.bias is None else projection.T @ linear.bias.detach()
            set_linear_part(layer, family, part, _linear(projection.T @ linear.weight.detach(), bias))
    for place in _norms(model, family):
        norm = cast("nn.LayerNorm", model.get_submodule(place))
        _put(model, place, nn.LayerNorm(projection.shape[1], eps=norm.eps))
    dense = cast("nn.Linear", model.get_submodule(family.head_dense))
    _put(model, family.head_dense, _linear(dense.weight.detach() @ projection, dense.bias))


def _fit_norms(
    model: nn.Module,
    smaller: nn.Module,
    family: EncoderFamily,
    projection: torch.Tensor,
    batches: Sequence[Batch],
) -> None:
    """Set scale and shift of every norm so that its output is nearest to the projected output of the original's."""
    import torch

    for place in _norms(model, family):
        given: list[torch.Tensor] = []
        wanted: list[torch.Tensor] = []
        norm = cast("nn.LayerNorm", smaller.get_submodule(place))
        hooks = [
            norm.register_forward_pre_hook(lambda _module, inputs, into=given: into.append(inputs[0])),
            model.get_submodule(place).register_forward_hook(
                lambda _module, _inputs, output, into=wanted: into.append(output)
            ),
        ]
        try:
            with torch.inference_mode():
                for batch in batches:
                    keep = batch["attention_mask"].bool()
                    for encoder, into in ((base_of(model), wanted), (base_of(smaller), given)):
                        encoder(**batch)
                        into[-1] = into[-1][keep]
        finally:
            for hook in hooks:
                hook.remove()
        inputs = torch.nn.functional.layer_norm(torch.cat(given), (projection.shape[1],), eps=norm.eps)
        targets = torch.cat(wanted) @ projection
        scale, shift = fit_scale_and_shift(inputs.double().numpy(), targets.double().numpy())
        with torch.no_grad():
            norm.weight.copy_(torch.from_numpy(scale))
            norm.bias.copy_(torch.from_numpy(shift))


def _narrow_head(model: nn.Module, family: EncoderFamily, width: int) -> None:
    """The head's inner product gives as many values as the hidden state has: those that the labels weigh most stay."""
    dense = cast("nn.Linear", model.get_submodule(family.head_dense))
    out = cast("nn.Linear", model.get_submodule(family.head_out))
    weight = out.weight.detach().square().sum(dim=0)
    rows = sorted(weight.topk(width).indices.tolist())
    _put(model, family.head_dense, select_outputs(dense, rows))
    _put(model, family.head_out, select_inputs(out, rows))


def _record(model: nn.Module, family: EncoderFamily, width: int, size: int) -> None:
    config = cast(Any, model).config
    for key in (family.hidden_key, "embedding_size"):
        if hasattr(config, key):
            setattr(config, key, width)
    # The head size follows from these two; the heads that are left are numbered anew.
    setattr(config, family.heads_key, width // size)
    layers = encoder_layers(model, family)
    config.pruned_heads = {}
    for layer in layers:
        cast(Any, layer.get_submodule(family.pruned_holder)).pruned_heads = set()
    record_shapes(model, family, [range(head_count(layer, family)) for layer in layers])


def _norms(model: nn.Module, family: EncoderFamily) -> list[str]:
    """Paths of all layer norms from the model, in the order of the computation."""
    base = cast(Any, model).base_model_prefix
    places = [f"{base}.{family.embeddings}.LayerNorm"]
    count = len(encoder_layers(model, family))
    places += [f"{base}.{family.layers}.{i}.{name}" for i in range(count) for name in family.layer_norms]
    return places


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    from torch import nn

    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear


def _put(model: nn.Module, place: str, module: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
