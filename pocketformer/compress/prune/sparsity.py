"""Zeros inside the weights of a model, without a pattern or 2:4, and training that keeps them.

Unlike the other pruning steps nothing is removed: shapes and files stay, and onnxruntime multiplies with the zeros. 2:4
is for TensorRT on GPUs from Ampere on (``tensorrt: {sparse_weights: true}``); unstructured zeros make the file compress
better.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pocketformer.compress.context import Progress, StepContext
from pocketformer.compress.encoding import TextEncoding, bucketed_batches, pad_batch
from pocketformer.compress.families import layer_parts
from pocketformer.compress.prune.sparsity_core import GROUP, magnitude, sparsegpt, wanda
from pocketformer.runtime.errors import ModelError, RecipeError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

# A trained weight is never exactly 0: a map with this share of zeros was made sparse.
_SPARSE = 0.1


@dataclass(frozen=True, kw_only=True)
class SparsityConfig:
    """How many weights of each map become zero.

    ``pattern``: a share above 0, below 1, or "2:4". ``method``: "magnitude" reads no texts; "wanda" and "sparsegpt"
    read ``samples`` of the train split in batches of ``batch_size``, drawn with ``seed`` (None: the run's), and
    "sparsegpt" also changes the weights that stay.
    """

    pattern: float | Literal["2:4"] = 0.5
    method: Literal["magnitude", "wanda", "sparsegpt"] = "sparsegpt"
    samples: int = 512
    batch_size: int = 32
    seed: int | None = None

    def __post_init__(self) -> None:
        share = isinstance(self.pattern, float) and 0 < self.pattern < 1
        if self.pattern != "2:4" and not share:
            raise RecipeError(
                f"pattern is {self.pattern!r}", hint="Give a share above 0 and below 1.0, or '2:4'."
            )
        if self.method not in ("magnitude", "wanda", "sparsegpt"):
            raise RecipeError(f"method is {self.method!r}", hint="Use magnitude, wanda or sparsegpt.")
        if min(self.samples, self.batch_size) < 1:
            raise RecipeError("samples and batch_size must be 1 or more", hint="Leave them out.")

    @property
    def share(self) -> float | None:
        """The share that goes; None: 2:4."""
        return None if isinstance(self.pattern, str) else self.pattern


def sparsify_step(model_dir: Path, config: SparsityConfig, context: StepContext) -> StepResult[Path]:
    """Set weights of ``model_dir`` to zero that the texts of the train split need least."""
    from pocketformer.compress.models import load_classifier, save_classifier

    model = load_classifier(model_dir)
    batches = () if config.method == "magnitude" else _batches(model_dir, config, context)
    result = sparsify(model, config, batches)
    save_classifier(model, model_dir, context.output)
    return StepResult(output=context.output, metrics=dict(result.metrics), notes=tuple(result.notes))


def _batches(
    model_dir: Path, config: SparsityConfig, context: StepContext
) -> Iterator[dict[str, torch.Tensor]]:
    encoding = TextEncoding(model_dir, context.max_length)
    texts = context.splits.train.texts
    rng = random.Random(context.seed if config.seed is None else config.seed)
    rows = encoding.encode(rng.sample(texts, min(config.samples, len(texts))))
    done = 0
    for indices in bucketed_batches([len(row) for row in rows], config.batch_size):
        yield pad_batch([rows[index] for index in indices], encoding.pad_id)
        done += len(indices)
        context.on_progress(Progress(step=done, total=len(rows)))


def sparsify(
    model: PreTrainedModel, config: SparsityConfig, batches: Iterable[dict[str, torch.Tensor]]
) -> StepResult[PreTrainedModel]:
    """Make the maps of every layer of ``model`` sparse, in place; ``batches`` are read for methods that need texts.

    Metrics: ``sparsity``, the share of zeros in these maps. Raises ``ModelError`` for 2:4 where a map's inputs are no
    multiple of four.
    """
    import torch

    maps = _maps(model)
    narrow = [part for part in maps if part.in_features % GROUP]
    if config.share is None and narrow:
        raise ModelError(
            f"{len(narrow)} maps have a number of inputs that is no multiple of four",
            hint="Prune to a width_multiple of 4 or more first, or give a share instead of 2:4.",
        )
    moments = {} if config.method == "magnitude" else input_moments(model, maps, batches)
    zeros = total = 0
    for part in maps:
        weight = part.weight.detach().double().numpy().T
        if config.method == "magnitude":
            sparse = magnitude(weight, config.share)
        else:
            choose = wanda if config.method == "wanda" else sparsegpt
            sparse = choose(weight, moments[part], config.share)
        with torch.no_grad():
            part.weight.copy_(torch.from_numpy(np.ascontiguousarray(sparse.T)))
        zeros += int((part.weight == 0).sum())
        total += part.weight.numel()
    return StepResult(
        output=model,
        metrics={"sparsity": zeros / total},
        notes=(f"{zeros / total:.1%} of the weights in {len(maps)} maps are zero ({config.pattern})",),
    )


def input_moments(
    model: PreTrainedModel, maps: list[nn.Linear], batches: Iterable[dict[str, torch.Tensor]]
) -> dict[nn.Linear, np.ndarray[Any, np.dtype[np.float64]]]:
    """Second moments X^T X / tokens [inputs, inputs] of what each map reads; padding does not count."""
    import torch

    sums: dict[nn.Linear, Any] = dict.fromkeys(maps, 0.0)
    seen = torch.zeros(())
    tokens = 0

    def listen(part: nn.Linear, inputs: tuple[torch.Tensor, ...]) -> None:
        rows = inputs[0].flatten(0, -2)[seen].double()
        sums[part] = sums[part] + rows.T @ rows

    handles = [part.register_forward_pre_hook(listen) for part in maps]
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                seen = batch["attention_mask"].flatten().bool()
                model(**batch)
                tokens += int(seen.sum())
    finally:
        for handle in handles:
            handle.remove()
    if not tokens:
        raise ModelError("there are no texts to read", hint="Give a train split, or use method magnitude.")
    return {part: (total / tokens).numpy() for part, total in sums.items()}


def hold_zeros(model: nn.Module) -> int:
    """Keep the zeros of sparse maps while ``model`` is trained: their gradients become 0; how many maps there are.

    Nothing moves a weight of 0 whose gradient is always 0: neither momentum nor weight decay. The hooks live as long as
    the parameters do. Models of which no map is sparse are left alone.
    """
    held = 0
    for part in _maps(model):
        weight: Any = part.weight  # torch types none of its hooks
        mask = weight.detach() != 0
        if weight.requires_grad and float(mask.float().mean()) <= 1 - _SPARSE:
            weight.register_hook(_masking(mask))
            held += 1
    return held


def _masking(mask: torch.Tensor) -> Any:
    return lambda gradient: gradient * mask.to(gradient.device)


def _maps(model: nn.Module) -> list[nn.Linear]:
    return [getattr(parts, name) for parts in layer_parts(model) for name in vars(parts)]
