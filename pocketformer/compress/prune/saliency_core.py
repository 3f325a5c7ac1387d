"""Fisher saliency of structures, and the choice of what stays: arrays in, arrays out.

Source: Kwon, Kim, Mahoney, Hassoun, Keutzer, Gholami: "A Fast Post-Training Pruning Framework for
Transformers", NeurIPS 2022, arXiv:2204.09656, section 4.

Every head and every neuron j gets a mask variable m_j that multiplies its output; the trained model has m =
1. With L_i the loss of example i, g_i = dL_i/dm at m = 1, and the gradient of the whole loss close to 0 at a
trained optimum, the loss after a change of the masks is to second order

    L(m) - L(1)  ~  1/2 (1 - m)^T H (1 - m)  ~  1/2 (1 - m)^T F (1 - m),     F = 1/N sum_i g_i g_i^T

where the Hessian H is replaced by the empirical Fisher information matrix F, which needs first derivatives
only. Removing the set R (m_j = 0 for j in R) therefore costs

    1/2 sum_{j,k in R} F_jk  =  1/(2N) sum_i ( sum_{j in R} g_ij )^2                                (full)

Ranking structures one by one takes the diagonal alone: S_j = F_jj = 1/N sum_i g_ij^2 (their equation 8). The
off-diagonal terms say that two structures do the same work; they are left out of the ranking (N examples
cannot estimate a matrix of thousands of masks: its rank is at most N) but not of the estimate that is
reported, which needs no matrix, only the sum of the removed columns of the gradient table (``removal_cost``).

For a head h with output z_h (the columns of the attention output's input that belong to h), and for a neuron
with activation z, the chain rule at m = 1 gives g_ij = sum over tokens t (and over the head's columns) of z *
dL_i/dz, so that no mask is needed where z and its gradient are at hand (``head_mask_gradients``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def fisher_diagonal(gradients: Floats) -> npt.NDArray[np.float64]:
    """S_j = 1/N sum_i g_ij^2. ``gradients`` [examples, masks] -> [masks]; ``ValueError`` without examples."""
    if gradients.ndim != 2 or gradients.shape[0] == 0:
        raise ValueError(
            f"gradients must be [examples, masks] with at least one example, not {gradients.shape}"
        )
    return np.asarray(np.square(gradients, dtype=np.float64).mean(axis=0))


def removal_cost(gradients: Floats, removed: npt.NDArray[np.bool_]) -> float:
    """Estimated rise of the mean loss: 1/(2N) sum_i (sum_{j removed} g_ij)^2, off-diagonal terms included.

    ``gradients`` [examples, masks], ``removed`` [masks] -> a loss in nats.
    """
    together = gradients[:, removed].sum(axis=1, dtype=np.float64)
    return float(0.5 * np.mean(np.square(together)))


def head_mask_gradients(activation: Floats, gradient: Floats, heads: int) -> npt.NDArray[np.float64]:
    """g_ih from a layer's concatenated head outputs and their gradients: [n, tokens, width] twice -> [n,
    heads].

    The gradient must be that of each example's own loss (a sum over the batch, not a mean). With ``heads``
    equal to the width it gives the gradients of neuron masks.
    """
    examples, tokens, width = activation.shape
    product = (activation * gradient).reshape(examples, tokens, heads, width // heads)
    return np.asarray(product.sum(axis=(1, 3), dtype=np.float64))


def keep_best(scores: Floats, count: int) -> tuple[int, ...]:
    """Positions of the ``count`` highest scores, ascending; of equal scores the first ones."""
    order = np.argsort(-np.asarray(scores), kind="stable")[:count]
    return tuple(sorted(int(position) for position in order))


@dataclass(frozen=True)
class LayerScores:
    """One layer's saliencies: ``heads`` [heads], ``neurons`` [neurons], and what one of each costs in
    parameters."""

    heads: Floats
    neurons: Floats
    head_cost: int
    neuron_cost: int


@dataclass(frozen=True)
class LayerChoice:
    """The positions of the heads and neurons that stay in one layer, ascending."""

    heads: tuple[int, ...]
    neurons: tuple[int, ...]


def choose_uniform(
    layers: Sequence[LayerScores], heads: Sequence[int], neurons: Sequence[int]
) -> list[LayerChoice]:
    """The best ``heads[l]`` heads and ``neurons[l]`` neurons of each layer l."""
    return [
        LayerChoice(heads=keep_best(layer.heads, h), neurons=keep_best(layer.neurons, n))
        for layer, h, n in zip(layers, heads, neurons, strict=True)
    ]


def choose_global(layers: Sequence[LayerScores], budget: int, *, width_multiple: int) -> list[LayerChoice]:
    """What stays when heads and neurons of all layers compete for ``budget`` parameters.

    Greedy knapsack by saliency per parameter. Units are single heads, and blocks of ``width_multiple``
    neurons (best first, so that widths stay friendly to SIMD); the best head and the best block of every
    layer stay in any case, even when these alone are over the budget. A unit that no longer fits is passed
    over for smaller ones.
    """
    kept_heads = [1] * len(layers)
    kept_neurons = [min(width_multiple, layer.neurons.size) for layer in layers]
    left = budget - sum(
        layer.head_cost + n * layer.neuron_cost for layer, n in zip(layers, kept_neurons, strict=True)
    )
    units: list[
        tuple[float, int, int, int, bool]
    ] = []  # (-saliency per parameter, layer, rank, size, is head)
    for index, layer in enumerate(layers):
        head_scores = np.sort(layer.heads)[::-1]
        units += [
            (-float(s) / layer.head_cost, index, rank, 1, True) for rank, s in enumerate(head_scores) if rank
        ]
        neuron_scores = np.sort(layer.neurons)[::-1]
        for start in range(width_multiple, neuron_scores.size, width_multiple):
            block = neuron_scores[start : start + width_multiple]
            units.append((-float(block.mean()) / layer.neuron_cost, index, start, block.size, False))
    # Units of one layer and kind come in order of rank, so a kept set is always "the best so many".
    for _, index, _, size, is_head in sorted(units):
        cost = size * (layers[index].head_cost if is_head else layers[index].neuron_cost)
        if cost > left:
            continue
        left -= cost
        if is_head:
            kept_heads[index] += size
        else:
            kept_neurons[index] += size
    return choose_uniform(layers, kept_heads, kept_neurons)
