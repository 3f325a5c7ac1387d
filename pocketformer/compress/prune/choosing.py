"""From removal paths and settings to what stays of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pocketformer.compress.families import encoder_layers, family_of, ffn_width, head_count, head_size
from pocketformer.compress.prune.allocation_core import Level, allocate
from pocketformer.compress.prune.config import PruneConfig
from pocketformer.compress.prune.costs import BlockCosts, multiply_accumulates
from pocketformer.compress.prune.obs_core import RemovalPath
from pocketformer.compress.prune.saliency_core import Floats, LayerChoice
from pocketformer.runtime.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class LayerPaths:
    """The orders in which a layer's heads and its neurons go. Errors of all layers are in one unit."""

    heads: RemovalPath
    neurons: RemovalPath


def saliency_path(scores: Floats) -> RemovalPath:
    """Structures by saliency, the lowest first: removing some costs half the sum of theirs."""
    order = np.argsort(-np.asarray(scores), kind="stable")[::-1]  # of equal ones the first stays
    errors = np.concatenate([[0.0], np.cumsum(np.asarray(scores, dtype=np.float64)[order]) / 2])
    return RemovalPath(order=tuple(int(position) for position in order), errors=errors)


def sizes(model: PreTrainedModel) -> tuple[list[int], list[int]]:
    """The heads and the feed-forward widths of each layer."""
    family = family_of(model)
    layers = encoder_layers(model, family)
    return [head_count(layer, family) for layer in layers], [ffn_width(layer, family) for layer in layers]


def wanted_counts(model: PreTrainedModel, config: PruneConfig) -> tuple[list[int], list[int]]:
    """How many heads and neurons of each layer ``config`` leaves when every layer keeps the same."""
    heads, widths = sizes(model)
    open_layers = [index not in config.protected_layers for index in range(len(heads))]
    return (
        [kept_count(config.heads, h, 1) if free else h for h, free in zip(heads, open_layers, strict=True)],
        [
            kept_count(config.ffn, w, config.width_multiple) if free else w
            for w, free in zip(widths, open_layers, strict=True)
        ],
    )


def kept_count(wanted: int | float, present: int, multiple: int) -> int:
    """A count or share as a count of 1 to ``present``, a multiple of ``multiple`` where that can be."""
    # The small addition keeps 0.7 of 10 from becoming 6 by rounding of binary fractions.
    count = int(wanted * present + 1e-9) if isinstance(wanted, float) else wanted
    if count >= present:
        return present
    return min(present, max(multiple, count // multiple * multiple))


def choose(
    model: PreTrainedModel, paths: Sequence[LayerPaths], config: PruneConfig, costs: BlockCosts | None
) -> list[LayerChoice]:
    """What stays of each layer, by ``config.allocation``; ``costs`` None: multiply-accumulates.

    Raises ``RecipeError`` when even the smallest model costs more than is allowed.
    """
    heads, widths = wanted_counts(model, config)
    if config.allocation == "uniform":
        return choose_counts(paths, heads, widths)
    known = costs or counted_costs(model, config.tokens)
    costs = parameter_costs(model) if config.allocation == "global" else known
    limit = costs.total(heads, widths)
    if isinstance(config.cost, float):
        limit *= config.cost
    # What is allowed may be exactly what a choice costs, summed up in another order.
    chosen = choose_within(paths, costs, limit * (1 + 1e-9), config)
    if chosen is None:
        raise RecipeError(
            f"no model costs as little as {limit:.4g} {costs.unit}",
            hint="Allow more, or remove layers (layers).",
        )
    return chosen


def choose_within(
    paths: Sequence[LayerPaths], costs: BlockCosts, limit: float, config: PruneConfig
) -> list[LayerChoice] | None:
    """What stays when the encoder may cost ``limit`` (``rest`` included) and is to err least.

    At least one head and ``config.width_multiple`` neurons of each layer stay, and protected layers whole. None when
    that costs more.
    """
    blocks: list[list[Level]] = []
    for index, layer in enumerate(paths):
        last = index == len(paths) - 1
        heads, width = len(layer.heads.order), len(layer.neurons.order)
        some_heads = range(1, heads + 1)
        widths = sorted({*range(min(config.width_multiple, width), width + 1, config.width_multiple), width})
        if index in config.protected_layers:
            some_heads, widths = range(heads, heads + 1), [width]
        blocks.append([Level(n, costs.of_attention(n, last=last), layer.heads.error(n)) for n in some_heads])
        blocks.append([Level(n, costs.of_ffn(n, last=last), layer.neurons.error(n)) for n in widths])
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


def counted_costs(model: PreTrainedModel, tokens: int) -> BlockCosts:
    """The multiply-accumulates of the blocks of ``model``, where no latency was measured."""
    family = family_of(model)
    heads, widths = sizes(model)
    return multiply_accumulates(
        hidden=int(model.config.hidden_size),
        head_size=head_size(encoder_layers(model, family)[0], family),
        heads=max(heads),
        width=max(widths),
        tokens=tokens,
    )


def parameter_costs(model: PreTrainedModel) -> BlockCosts:
    """The parameters of the blocks of ``model``, the same in every layer."""
    family = family_of(model)
    heads, widths = sizes(model)
    hidden, size = int(model.config.hidden_size), head_size(encoder_layers(model, family)[0], family)
    attention = {0: 0.0, max(heads): float(max(heads) * size * (4 * hidden + 3))}
    ffn = {0: 0.0, max(widths): float(max(widths) * (2 * hidden + 1))}
    return BlockCosts(attention=attention, ffn=ffn, last_attention=attention, last_ffn=ffn, unit="parameters")
