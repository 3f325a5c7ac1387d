"""Making up for what was pruned, layer by layer, without training.

Source: Park, Choi and Kang 2024, "K-prune", arXiv:2308.03449, section 3.3 (knowledge reconstruction): after cutting,
the weights of a map are fitted by least squares so that the layer gives again what it gave before pruning, on the
inputs that it really gets from the pruned layers before it. Frantar and Alistarh 2022 (arXiv:2208.11580) do the same
in their sequential mode.

With z the sum that a block's normalization reads (the block's input r and its map's output y = V x + b) in the model
before pruning, and r', x' the same in the pruned one, the fit is

    min over V, b of  E | z - r' - (V x' + b) |^2  +  ridge |V - V_now|^2

so the map also makes up for what earlier layers lost. Of the last layer the first position alone counts: the head
reads no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.families import EncoderFamily, encoder_layers, family_of, linear_part
from pocketformer.compress.prune.moments import PRUNED_MAPS
from pocketformer.compress.prune.obs_core import least_squares

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    Batch = dict[str, torch.Tensor]
    # For each layer and each of its two blocks, for each batch: what the normalization reads.
    Sums = list[tuple[list[torch.Tensor], list[torch.Tensor]]]


def block_sums(model: PreTrainedModel, batches: Sequence[Batch]) -> Sums:
    """What the normalizations of both blocks of every layer read, [batch, tokens, hidden] for every batch."""
    import torch

    family = family_of(model)
    layers = encoder_layers(model, family)
    sums: Sums = [([], []) for _ in layers]
    with _listening(
        [(norm, found.append) for layer, pair in zip(layers, sums, strict=True)
         for norm, found in zip(_norms(layer, family), pair, strict=True)]
    ), torch.inference_mode():  # fmt: skip
        for batch in batches:
            model(**batch)
    return sums


def reconstruct(model: PreTrainedModel, sums: Sums, batches: Sequence[Batch], *, ridge: float) -> None:
    """Refit the pruned maps of ``model`` in place, first layer to last, to give ``sums`` again.

    ``sums`` come from ``block_sums`` of the model before pruning on the same ``batches``; ``ridge`` is a share of the
    inputs' mean variance.
    """
    import torch

    family = family_of(model)
    layers = encoder_layers(model, family)
    calls = _first_calls(model, layers[0], batches)
    masks = [batch["attention_mask"].bool() for batch in batches]
    for index, layer in enumerate(layers):
        if index == len(layers) - 1:
            masks = [_first_position(mask) for mask in masks]
        for part, norm, wanted in zip(PRUNED_MAPS, _norms(layer, family), sums[index], strict=True):
            linear = linear_part(layer, family, part)
            with torch.inference_mode():
                seen = [_observe(layer, linear, norm, call) for call in calls]
            _refit(linear, seen, masks, wanted, ridge)
        # What the layer gives is what its last normalization makes of the new sum.
        with torch.inference_mode():
            outputs = [norm(one.residual + linear(one.inputs)) for one in seen]
        calls = [((hidden, *args[1:]), kwargs) for hidden, (args, kwargs) in zip(outputs, calls, strict=True)]


Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class _Seen:
    """What a map reads, and what is added to what it gives."""

    inputs: torch.Tensor
    residual: torch.Tensor


def _observe(layer: nn.Module, linear: nn.Linear, norm: nn.Module, call: Call) -> _Seen:
    """Run a layer as far as the normalization after ``linear``."""
    inputs: list[torch.Tensor] = []
    found: list[torch.Tensor] = []

    def reached(read: torch.Tensor) -> None:
        found.append(read)
        raise _EndError

    with _listening([(linear, inputs.append), (norm, reached)]), contextlib.suppress(_EndError):
        layer(*call[0], **call[1])
    return _Seen(inputs=inputs[0], residual=found[0] - linear(inputs[0]))


def _refit(
    linear: nn.Linear,
    seen: Sequence[_Seen],
    masks: Sequence[torch.Tensor],
    wanted: Sequence[torch.Tensor],
    ridge: float,
) -> None:
    import torch

    count = 0
    # Far from their means, float32 has no digits left for how little inputs vary.
    origin = seen[0].inputs[masks[0]].mean(dim=0)
    target_origin = wanted[0][masks[0]].mean(dim=0)
    squares: Any = 0.0
    cross: Any = 0.0
    mean: Any = 0.0
    target_mean: Any = 0.0
    for one, mask, before in zip(seen, masks, wanted, strict=True):
        x = one.inputs[mask] - origin
        target = (before - one.residual)[mask] - target_origin
        count += len(x)
        squares = squares + (x.T @ x).double().numpy()
        cross = cross + (target.T @ x).double().numpy()
        mean = mean + x.sum(dim=0).double().numpy()
        target_mean = target_mean + target.sum(dim=0).double().numpy()
    mean, target_mean = mean / count, target_mean / count
    covariance = squares / count - np.outer(mean, mean)
    weight = least_squares(
        cross / count - np.outer(target_mean, mean),
        covariance,
        linear.weight.detach().double().numpy(),
        ridge * float(np.trace(covariance)) / len(covariance) + 1e-12,
    )
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        if linear.bias is not None:
            mean, target_mean = mean + origin.double().numpy(), target_mean + target_origin.double().numpy()
            linear.bias.copy_(torch.from_numpy(target_mean - weight @ mean))


def _norms(layer: nn.Module, family: EncoderFamily) -> list[nn.Module]:
    """The normalizations after attention and after the feed-forward network."""
    return [layer.get_submodule(path) for path in family.layer_norms]


class _EndError(Exception):
    """Ends a forward pass where what was wanted of it is known."""


def _first_calls(model: PreTrainedModel, layer: nn.Module, batches: Sequence[Batch]) -> list[Call]:
    """The arguments with which the encoder calls its first layer."""
    import torch

    calls: list[Call] = []

    def stop(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args, kwargs))
        raise _EndError

    hook = layer.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.inference_mode():
            for batch in batches:
                with contextlib.suppress(_EndError):
                    model(**batch)
    finally:
        hook.remove()
    return calls


def _first_position(mask: torch.Tensor) -> torch.Tensor:
    first = mask.clone()
    first[:, 1:] = False
    return first


@contextmanager
def _listening(pairs: Sequence[tuple[nn.Module, Callable[[torch.Tensor], None]]]) -> Iterator[None]:
    """Each listener hears the input of its module whenever that runs."""

    def hook(listener: Callable[[torch.Tensor], None]) -> Callable[..., None]:
        return lambda _module, inputs: listener(inputs[0])

    hooks = [module.register_forward_pre_hook(hook(listener)) for module, listener in pairs]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()
