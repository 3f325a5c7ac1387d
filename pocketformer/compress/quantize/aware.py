"""Quantization-aware training: the model learns from its teacher while its products compute as int8 or int4 would.

What is trained are the float weights, and they are what is saved: exporting and quantizing them gives the codes that
the training saw. The loop, the losses and the teacher are those of ``distill``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketformer.compress.context import StepContext
from pocketformer.compress.distill import DistillConfig, distill
from pocketformer.compress.training import TrainingConfig
from pocketformer.runtime.errors import RecipeError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import torch

# Of what distillation takes: the model is there already and shall only move between codes.
_RATE_SHARE = 0.25


def _distillation() -> DistillConfig:
    return DistillConfig(training=TrainingConfig(epochs=2, learning_rate=None, keep="average"))


@dataclass(frozen=True, kw_only=True)
class QatConfig:
    """Settings of quantization-aware training.

    ``weight_bits`` 8 rounds weights with a scale for each output, to 7 bits with ``reduce_range``: codes that no
    processor's products overflow with, and that 8 bits hold too. 4 rounds them in blocks of ``block_size`` inputs, to
    the codes of a symmetric MatMulNBits.
    ``activations`` "uint8": by their range in each call, as in dynamic quantization; "float32" leaves them, as 4-bit
    weights alone do. ``distillation``: the training; a learning rate of None is a quarter of that of ``distill``.
    """

    weight_bits: Literal[4, 8] = 8
    reduce_range: bool = True
    block_size: int = 32
    activations: Literal["uint8", "float32"] = "uint8"
    distillation: DistillConfig = field(default_factory=_distillation)

    def __post_init__(self) -> None:
        if self.block_size < 16 or self.block_size & (self.block_size - 1):
            raise RecipeError(
                f"block_size is {self.block_size}",
                hint="Give a power of 2 of at least 16, as MatMulNBits takes.",
            )
        if self.distillation.layers is not None:
            raise RecipeError(
                "quantization-aware training keeps all layers", hint="Choose layers in a distill step before."
            )


def train_quantized(model_dir: Path, config: QatConfig, context: StepContext) -> StepResult[Path]:
    """Train the classifier in ``model_dir`` with rounded products; write its float weights to ``context.output``.

    Metrics: those of ``distill``, and ``quantized_<metric>``, the validation score with rounded products. Raises as
    ``distill`` does.
    """
    from pocketformer.compress.models import load_classifier
    from pocketformer.compress.training import default_learning_rate

    training = config.distillation.training
    if training.learning_rate is None:
        width = int(load_classifier(model_dir).config.hidden_size)
        rate = 2 * _RATE_SHARE * default_learning_rate(width)
        training = replace(training, learning_rate=rate)
    result = distill(
        model_dir,
        replace(config.distillation, training=training),
        context,
        computing=partial(quantized_products, config=config),
    )
    metrics = dict(result.metrics)
    score = metrics.get(f"validation_{context.metric}")
    if score is not None:
        metrics[f"quantized_{context.metric}"] = score
    return StepResult(output=result.output, metrics=metrics, notes=result.notes)


@contextmanager
def quantized_products(model: Any, config: QatConfig) -> Iterator[None]:
    """Let the model's products compute with rounded weights and activations; after it as before.

    In the last layer, graphs that ship compute only the first position for all but keys and values, so the ranges of
    activations are taken there alone.
    """
    from pocketformer.compress.families import family_of, layer_parts

    family, layers = family_of(model), layer_parts(model)
    changed = [(model.get_submodule(name), False) for name in (family.head_dense, family.head_out)]
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        changed += [
            (getattr(layer, part), last and part not in ("key", "value")) for part in family.linear_parts
        ]
    for linear, first in changed:
        linear.forward = partial(_product, linear, config, first)
    try:
        yield
    finally:
        for linear, _ in changed:
            del linear.forward


def _product(linear: Any, config: QatConfig, first: bool, x: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    from pocketformer.compress.quantize.fake_quant_core import (
        rounded_activations,
        rounded_blocks,
        rounded_rows,
        straight_through,
    )

    weight = linear.weight
    if config.weight_bits == 4:
        rounded = rounded_blocks(weight, config.block_size)
    else:
        rounded = rounded_rows(weight, 64 if config.reduce_range else 127)
    if config.activations == "uint8":
        x = straight_through(x, rounded_activations(x, x[:, :1] if first else None))
    return functional.linear(x, straight_through(weight, rounded), linear.bias)
