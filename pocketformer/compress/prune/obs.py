"""Pruning heads and neurons of a model by optimal brain surgeon (``obs_core``).

What takes long is done once: the moments, and the order in which each block's structures go. A model is then cut to any
size in seconds.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pocketformer.compress.families import EncoderFamily, encoder_layers, family_of, head_size, linear_part
from pocketformer.compress.prune.choosing import LayerPaths
from pocketformer.compress.prune.moments import PRUNED_MAPS, Moments
from pocketformer.compress.prune.obs_core import columns_of, compensated, damped, removal_path
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.compress.prune.saliency_core import LayerChoice

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_DAMPING = 0.01  # of the inputs' mean variance, as in the papers


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


def map_weights(model: PreTrainedModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """The weights [outputs, inputs] of both maps of every layer whose inputs are pruned."""
    family = family_of(model)
    first, second = PRUNED_MAPS
    layers = encoder_layers(model, family)
    return [(_weight(layer, family, first), _weight(layer, family, second)) for layer in layers]


def _weight(layer: nn.Module, family: EncoderFamily, part: str) -> np.ndarray:
    weight: np.ndarray = linear_part(layer, family, part).weight.detach().double().numpy()
    return weight
