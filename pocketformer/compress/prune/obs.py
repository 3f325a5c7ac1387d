"""Pruning heads and neurons by optimal brain surgeon, at whatever cost may stay (``obs_core``, ``allocation_core``).

What takes long is done once: the moments, and the order in which each block's structures go. A model for a cost is then
cut in seconds, so that many costs can be tried.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pocketformer.compress.families import (
    EncoderFamily,
    encoder_layers,
    family_of,
    ffn_width,
    head_count,
    head_size,
    linear_part,
)
from pocketformer.compress.prune.allocation_core import Level, allocate
from pocketformer.compress.prune.costs import BlockCosts
from pocketformer.compress.prune.moments import PRUNED_MAPS, Moments
from pocketformer.compress.prune.obs_core import (
    RemovalPath,
    columns_of,
    compensated,
    damped,
    removal_path,
)
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.compress.prune.saliency_core import LayerChoice

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_DAMPING = 0.01  # of the inputs' mean variance, as in the papers


@dataclass(frozen=True, kw_only=True)
class LayerPaths:
    """The orders in which a layer's heads and its neurons go."""

    heads: RemovalPath
    neurons: RemovalPath


def obs_paths(model: PreTrainedModel, moments: Sequence[tuple[Moments, Moments]]) -> list[LayerPaths]:
    """Removal paths of every layer; errors are those of the logits, summed over them, for one text."""
    family = family_of(model)
    paths = []
    for layer, of_maps in zip(encoder_layers(model, family), moments, strict=True):
        heads, neurons = (
            removal_path(
                known.metric_root @ _weight(layer, family, part),
                damped(known.covariance, _DAMPING),
                size,
            )
            for part, known, size in zip(PRUNED_MAPS, of_maps, (head_size(layer, family), 1), strict=True)
        )
        paths.append(LayerPaths(heads=heads, neurons=neurons))
    return paths


def choose_within(
    paths: Sequence[LayerPaths], costs: BlockCosts, limit: float, *, width_multiple: int
) -> list[LayerChoice] | None:
    """What stays when the encoder may cost ``limit`` (in the unit of ``costs``, ``rest`` included) and errs least.

    At least one head and ``width_multiple`` neurons of each layer stay. None when even these cost more.
    """
    blocks: list[list[Level]] = []
    for index, layer in enumerate(paths):
        last = index == len(paths) - 1
        heads, width = len(layer.heads.order), len(layer.neurons.order)
        blocks.append(
            [
                Level(n, costs.of_attention(n, last=last), layer.heads.error(n))
                for n in range(1, heads + 1)
            ]
        )
        counts = sorted({*range(min(width_multiple, width), width + 1, width_multiple), width})
        blocks.append([Level(n, costs.of_ffn(n, last=last), layer.neurons.error(n)) for n in counts])
    chosen = allocate(blocks, limit - costs.rest)
    if chosen is None:
        return None
    counts = [level.kept for level in chosen]
    return choose_counts(paths, counts[::2], counts[1::2])


def choose_counts(
    paths: Sequence[LayerPaths], heads: Sequence[int], neurons: Sequence[int]
) -> list[LayerChoice]:
    """The ``heads[l]`` heads and ``neurons[l]`` neurons of each layer l that stay longest."""
    return [
        LayerChoice(heads=layer.heads.kept(h), neurons=layer.neurons.kept(n))
        for layer, h, n in zip(paths, heads, neurons, strict=True)
    ]


def cut_and_compensate(
    model: PreTrainedModel, moments: Sequence[tuple[Moments, Moments]], choices: Sequence[LayerChoice]
) -> PreTrainedModel:
    """A smaller copy of ``model`` whose remaining weights and biases make up for what went, as far as they can."""
    import torch

    family = family_of(model)
    smaller = copy.deepcopy(model)
    keep_parts(smaller, [choice.heads for choice in choices], [choice.neurons for choice in choices])
    layers = zip(encoder_layers(model, family), encoder_layers(smaller, family), strict=True)
    for (before, after), of_maps, choice in zip(layers, moments, choices, strict=True):
        kept = (columns_of(choice.heads, head_size(before, family)), columns_of(choice.neurons, 1))
        for part, known, columns in zip(PRUNED_MAPS, of_maps, kept, strict=True):
            linear = linear_part(after, family, part)
            weight = _weight(before, family, part)
            if len(columns) == weight.shape[1]:
                continue
            fitted = compensated(weight, damped(known.covariance, _DAMPING), columns)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(fitted))
                if linear.bias is not None:
                    shift = weight @ known.mean - fitted @ known.mean[columns]
                    linear.bias.add_(torch.from_numpy(shift).to(linear.bias.dtype))
    return smaller


def sizes(model: PreTrainedModel) -> tuple[list[int], list[int]]:
    """The heads and the feed-forward widths of each layer."""
    family = family_of(model)
    layers = encoder_layers(model, family)
    return [head_count(layer, family) for layer in layers], [ffn_width(layer, family) for layer in layers]


def _weight(layer: nn.Module, family: EncoderFamily, part: str) -> np.ndarray:
    weight: np.ndarray = linear_part(layer, family, part).weight.detach().double().numpy()
    return weight
