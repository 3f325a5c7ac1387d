"""What optimal brain surgeon needs to know of a model: how the inputs of its maps vary, and which outputs matter.

For the two maps of a layer whose inputs are pruned (attention output: heads; second map of the feed-forward network:
neurons), over the tokens of real texts: the covariance of the inputs, and the second moment of the gradients at the
outputs, F = sum over a text's tokens of g g^T. A small change dy of the output then changes what is differentiated by
about dy^T F dy (the Kronecker-factored form of the Gauss-Newton matrix: Martens and Grosse 2015, arXiv:1503.05671;
for pruning: van der Ouderaa et al. 2024, "The LLM Surgeon", arXiv:2312.17244, section 3).

Differentiated are the logits, along random directions: with e ~ N(0, I), the mean of (J^T e)(J^T e)^T is J^T J. No
labels are needed, and every text counts, also those of which a trained model is so sure that its loss has no gradient
left. Tokens count by their gradients: in the last layer the first position alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pocketformer.compress.families import encoder_layers, family_of, linear_part
from pocketformer.runtime.errors import DataError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

PRUNED_MAPS = ("attention_output", "ffn_out")
"""The maps of a layer that read what is pruned, in the order in which they run."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of one map: ``covariance`` [inputs, inputs] and ``mean`` [inputs] of its inputs, tokens weighted by gradients.

    ``metric_root`` [rank, outputs] is R with R^T R = F, so that |R dy|^2 is what an error of the output costs.
    """

    covariance: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    metric_root: npt.NDArray[np.float64]


@dataclass
class _Sums:
    # Inputs are counted from here: far from it, float32 has no digits left for how little they vary.
    origin: Any = None
    weight: float = 0.0
    inputs: Any = 0.0
    products: Any = 0.0
    gradients: Any = 0.0


def collect_moments(
    model: PreTrainedModel,
    batches: Iterable[dict[str, torch.Tensor]],
    *,
    seed: int = 0,
    on_batch: Callable[[int], None] = lambda _: None,
) -> list[tuple[Moments, Moments]]:
    """The moments of both maps of every layer, over all texts of ``batches`` (``input_ids``, ``attention_mask``).

    ``on_batch`` hears how many texts are done. The model is left as it was. Raises ``DataError`` without a text.
    """
    import torch

    family = family_of(model)
    maps = [
        linear_part(layer, family, part) for layer in encoder_layers(model, family) for part in PRUNED_MAPS
    ]
    sums = [_Sums() for _ in maps]
    generator = torch.Generator().manual_seed(seed)
    texts = 0
    with _evaluated(model), _watched(maps) as seen:
        for batch in batches:
            keep = batch["attention_mask"].bool()
            # Gradients start at the embeddings' output, so that no parameter needs one.
            embedded = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
            with torch.enable_grad():
                logits = model(inputs_embeds=embedded, attention_mask=batch["attention_mask"]).logits
                along = torch.randn(logits.shape, generator=generator)
                gradients = torch.autograd.grad((logits * along).sum(), [seen[one][1] for one in maps])
            for one, gradient, total in zip(maps, gradients, sums, strict=True):
                _add(total, seen[one][0][keep], gradient[keep])
            texts += len(keep)
            on_batch(texts)
    if texts == 0:
        raise DataError("no texts to see what can be pruned", hint="Give at least one text.")
    found = [_moments(total, texts) for total in sums]
    return list(zip(found[::2], found[1::2], strict=True))


def _add(total: _Sums, inputs: torch.Tensor, gradient: torch.Tensor) -> None:
    if total.origin is None:
        total.origin = inputs.mean(dim=0)
    inputs = inputs - total.origin
    squared = gradient.square().sum(dim=-1, keepdim=True)
    weighted = inputs * squared.sqrt()
    total.weight += float(squared.sum())
    total.inputs = total.inputs + (inputs * squared).sum(dim=0).double().numpy()
    total.products = total.products + (weighted.T @ weighted).double().numpy()
    total.gradients = total.gradients + (gradient.T @ gradient).double().numpy()


def _moments(total: _Sums, texts: int) -> Moments:
    weight = total.weight or 1.0
    mean = total.inputs / weight
    return Moments(
        covariance=total.products / weight - np.outer(mean, mean),
        mean=mean + total.origin.double().numpy(),
        metric_root=_root(total.gradients / texts),
    )


def _root(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """R [rank, n] with R^T R = ``matrix``, a positive semidefinite one."""
    values, vectors = np.linalg.eigh(matrix)
    large = values > max(float(values[-1]), 0.0) * 1e-9
    return np.asarray(np.sqrt(values[large])[:, None] * vectors[:, large].T)


@contextmanager
def _evaluated(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout, and without gradients of the parameters."""
    training, wanted = model.training, [p for p in model.parameters() if p.requires_grad]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        model.train(training)
        for parameter in wanted:
            parameter.requires_grad_()


@contextmanager
def _watched(maps: list[nn.Linear]) -> Iterator[dict[nn.Module, tuple[torch.Tensor, torch.Tensor]]]:
    """The last input and output of each map, while the model runs."""
    seen: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen[module] = (inputs[0].detach(), output)

    hooks = [one.register_forward_hook(keep) for one in maps]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
