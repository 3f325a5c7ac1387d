"""Pruning heads and feed-forward neurons by Fisher saliency (Kwon et al. 2022, arXiv:2204.09656).

Unlike the paper's code, which leaves masks behind, what is not kept is cut out of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.families import (
    encoder_layers,
    family_of,
    ffn_width,
    head_count,
    head_size,
    linear_part,
)
from pocketformer.compress.prune.choosing import LayerPaths, choose, saliency_path, wanted_counts
from pocketformer.compress.prune.config import PruneConfig
from pocketformer.compress.prune.costs import BlockCosts
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.compress.prune.saliency_core import (
    Floats,
    LayerChoice,
    LayerScores,
    choose_global,
    fisher_diagonal,
    keep_best,
    removal_cost,
)
from pocketformer.runtime.errors import DataError, RecipeError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class MaskGradients:
    """Per-example loss gradients of the masks: for each layer ``heads`` [examples, heads], ``neurons`` [..,
    width]."""

    heads: tuple[np.ndarray[Any, np.dtype[np.float32]], ...]
    neurons: tuple[np.ndarray[Any, np.dtype[np.float32]], ...]


def mask_gradients(model: PreTrainedModel, batches: Iterable[Batch], samples: int) -> MaskGradients:
    """Gradients of each example's cross-entropy for masks on every head's and every neuron's output, at mask
    1.

    ``batches`` are mappings with ``input_ids`` and ``attention_mask`` [n, tokens] and, if known, ``labels``
    [n] (``token_type_ids`` are passed on). Where labels are absent the model's own predicted labels take
    their place: the Fisher information then asks what keeps the predictions as they are. Reads batches until
    ``samples`` examples are seen. The model is run without dropout and left as it was; its parameters get no
    gradients. Raises ``DataError`` when there is no example.
    """
    import torch
    from torch.nn import functional

    family = family_of(model)
    layers = encoder_layers(model, family)
    masks: dict[tuple[str, int], torch.Tensor] = {}

    def masked(kind: str, index: int) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            mask = masks[kind, index]
            # A head's mask is repeated over its columns; a neuron's mask is the column.
            wide = mask.repeat_interleave(inputs[0].shape[-1] // mask.shape[-1], dim=-1)
            return (inputs[0] * wide.unsqueeze(1), *inputs[1:])

        return hook

    hooks = []
    for index, layer in enumerate(layers):
        for kind, part in (("heads", "attention_output"), ("neurons", "ffn_out")):
            hooks.append(linear_part(layer, family, part).register_forward_pre_hook(masked(kind, index)))
    was_training = model.training
    model.eval()
    found: dict[tuple[str, int], list[np.ndarray[Any, np.dtype[np.float32]]]] = {}
    seen = 0
    try:
        for batch in batches:
            if seen >= samples:
                break
            inputs = {name: tensor[: samples - seen] for name, tensor in batch.items()}
            labels = inputs.pop("labels", None)
            count = int(inputs["input_ids"].shape[0])
            device = inputs["input_ids"].device
            for index, layer in enumerate(layers):
                masks["heads", index] = torch.ones(count, head_count(layer, family), device=device)
                masks["neurons", index] = torch.ones(count, ffn_width(layer, family), device=device)
            with torch.enable_grad():
                for mask in masks.values():
                    mask.requires_grad_()
                logits = model(**inputs).logits
                target = logits.detach().argmax(dim=-1) if labels is None else labels
                # A sum, not a mean: each example's mask then receives the gradient of that example's own
                # loss.
                loss = functional.cross_entropy(logits, target, reduction="sum")
                gradients = torch.autograd.grad(loss, list(masks.values()))
            for name, gradient in zip(masks, gradients, strict=True):
                found.setdefault(name, []).append(gradient.float().cpu().numpy())
            seen += count
    finally:
        for handle in hooks:
            handle.remove()
        model.train(was_training)
    if seen == 0:
        raise DataError("no examples to measure what can be pruned", hint="Give at least one batch of texts.")
    return MaskGradients(
        heads=tuple(np.concatenate(found["heads", index]) for index in range(len(layers))),
        neurons=tuple(np.concatenate(found["neurons", index]) for index in range(len(layers))),
    )


def prune_structure(
    model: PreTrainedModel,
    config: PruneConfig,
    batches: Iterable[Batch],
    *,
    costs: BlockCosts | None = None,
    most_heads: int | None = None,
) -> StepResult[PreTrainedModel]:
    """A smaller copy of ``model``: the least salient heads and neurons are removed; the original stays as it
    is. ``most_heads``: no layer keeps more than these.

    See ``mask_gradients`` for the batches. Metrics: ``examples``, ``parameters_before``,
    ``parameters_after``, ``estimated_loss_rise`` (nats, second order, before any recovery), and for each
    layer ``layer_N_heads`` and ``layer_N_ffn``. Raises ``ModelError`` for an architecture that is not
    supported, ``RecipeError`` for a protected layer that does not exist or more heads or neurons than any layer has,
    ``DataError`` without examples.
    """
    check_settings(model, config)
    gradients = mask_gradients(model, batches, config.samples)
    choices = _choose(model, config, gradients, costs, most_heads)
    smaller = copy.deepcopy(model)
    keep_parts(smaller, [choice.heads for choice in choices], [choice.neurons for choice in choices])
    table = np.concatenate([*gradients.heads, *gradients.neurons], axis=1)
    removed = np.concatenate(
        [_absent(choice.heads, g.shape[1]) for choice, g in zip(choices, gradients.heads, strict=True)]
        + [_absent(choice.neurons, g.shape[1]) for choice, g in zip(choices, gradients.neurons, strict=True)]
    )
    metrics = {
        "examples": float(table.shape[0]),
        "parameters_before": float(sum(p.numel() for p in model.parameters())),
        "parameters_after": float(sum(p.numel() for p in smaller.parameters())),
        "estimated_loss_rise": removal_cost(table, removed),
    }
    for index, choice in enumerate(choices):
        metrics[f"layer_{index}_heads"] = float(len(choice.heads))
        metrics[f"layer_{index}_ffn"] = float(len(choice.neurons))
    return StepResult(output=smaller, metrics=metrics, notes=_notes(config, choices))


def check_settings(model: PreTrainedModel, config: PruneConfig) -> None:
    """Raise ``RecipeError`` for layers, heads or neurons that the model does not have."""
    family = family_of(model)
    layers = encoder_layers(model, family)
    unknown = [index for index in config.protected_layers if not 0 <= index < len(layers)]
    if unknown:
        raise RecipeError(
            f"protected layer {unknown[0]} does not exist",
            hint=f"The model's layers are 0 to {len(layers) - 1}.",
        )
    for name, wanted, size in (("heads", config.heads, head_count), ("ffn", config.ffn, ffn_width)):
        most = max(size(layer, family) for layer in layers)
        if isinstance(wanted, int) and wanted > most:
            raise RecipeError(
                f"{name} is {wanted}, but no layer has more than {most}",
                hint=f"Give a number up to {most}, or a share.",
            )


def _choose(
    model: PreTrainedModel,
    config: PruneConfig,
    gradients: MaskGradients,
    costs: BlockCosts | None,
    most_heads: int | None,
) -> list[LayerChoice]:
    scores = [
        (fisher_diagonal(heads), fisher_diagonal(neurons))
        for heads, neurons in zip(gradients.heads, gradients.neurons, strict=True)
    ]
    if config.allocation == "global":
        chosen = _choose_by_parameters(model, config, scores)
    else:
        paths = [LayerPaths(heads=saliency_path(h), neurons=saliency_path(n)) for h, n in scores]
        chosen = choose(model, paths, config, costs)
    return [
        _with_most_heads(choice, heads, most_heads) for choice, (heads, _) in zip(chosen, scores, strict=True)
    ]


def _choose_by_parameters(
    model: PreTrainedModel, config: PruneConfig, scores: Sequence[tuple[Floats, Floats]]
) -> list[LayerChoice]:
    family = family_of(model)
    competing: list[LayerScores] = []
    for layer, (heads, neurons) in zip(encoder_layers(model, family), scores, strict=True):
        width, hidden = head_size(layer, family), linear_part(layer, family, "ffn_in").in_features
        competing.append(
            LayerScores(
                heads=heads,
                neurons=neurons,
                head_cost=4 * hidden * width + 3 * width,
                neuron_cost=2 * hidden + 1,
            )
        )
    open_layers = [index for index in range(len(competing)) if index not in config.protected_layers]
    counts = list(zip(*wanted_counts(model, config), strict=True))
    budget = sum(
        competing[i].head_cost * counts[i][0] + competing[i].neuron_cost * counts[i][1] for i in open_layers
    )
    chosen = choose_global([competing[i] for i in open_layers], budget, width_multiple=config.width_multiple)
    whole = [LayerChoice(tuple(range(s.heads.size)), tuple(range(s.neurons.size))) for s in competing]
    for index, choice in zip(open_layers, chosen, strict=True):
        whole[index] = choice
    return whole


def _with_most_heads(choice: LayerChoice, scores: Floats, most: int | None) -> LayerChoice:
    if most is None or len(choice.heads) <= most:
        return choice
    kept = keep_best(scores[list(choice.heads)], most)
    return replace(choice, heads=tuple(choice.heads[position] for position in kept))


def _absent(kept: tuple[int, ...], count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.ones(count, dtype=np.bool_)
    mask[list(kept)] = False
    return mask


def _notes(config: PruneConfig, choices: list[LayerChoice]) -> tuple[str, ...]:
    notes = [f"{config.allocation} allocation by the Fisher diagonal of the masks"]
    widths = {len(choice.neurons) for choice in choices}
    if len(widths) > 1:
        notes.append(
            f"feed-forward widths differ between layers ({min(widths)} to {max(widths)}): the "
            "directory loads "
            "through pocketformer, not through plain Transformers"
        )
    if isinstance(config.ffn, int) and config.ffn % config.width_multiple:
        notes.append(f"the width {config.ffn} was rounded to a multiple of {config.width_multiple}")
    return tuple(notes)
