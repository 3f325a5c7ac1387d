"""Static int8 by neural-compressor: the PyTorch 2 export path with observers, on the torch model itself.

The model is captured by ``torch.export``, observers are put around its products, calibration feeds set their
ranges, and the result holds QuantizeLinear/DequantizeLinear pairs that the exporter handed in turns to ONNX.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.compress.quantize.config import NeuralCompressorConfig
from pocketformer.compress.quantize.graph_state import load
from pocketformer.compress.quantize.onnxruntime_dynamic import product_metrics
from pocketformer.runtime.errors import InputError, MissingDependencyError, ModelError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    # Writes module, called with the example's tensors in order, to the ONNX file and returns its path.
    ExportModule = Callable[[torch.nn.Module, Mapping[str, torch.Tensor], Path], Path]


def quantize_neural_compressor(
    model: torch.nn.Module,
    output: Path,
    config: NeuralCompressorConfig,
    calibration: Sequence[Mapping[str, NDArray[np.int64]]],
    export: ExportModule,
) -> StepResult[Path]:
    """Quantize the fp32 classifier ``model`` and let ``export`` write it to ``output``.

    ``calibration`` are feeds int64 [batch, sequence] by input name; their names are the graph's inputs.
    ``model`` itself is not changed. Metrics: ``bytes``, ``quantized_products``, ``calibration_batches``.
    Raises ``InputError`` without feeds, ``MissingDependencyError`` when neural-compressor is not
    installed, ``ModelError`` when it cannot handle the model.
    """
    if not calibration:
        raise InputError("static quantization needs calibration texts", hint="Pass training texts.")
    feeds = list(calibration[: config.calibration_batches])
    with quiet():
        quantized, example = _quantized_module(model, feeds, config)
    export(quantized, example, output)
    metrics = product_metrics(load(output), output)
    metrics["calibration_batches"] = float(len(feeds))
    return StepResult(output=output, metrics=metrics)


def _quantized_module(
    model: torch.nn.Module, feeds: Sequence[Mapping[str, Any]], config: NeuralCompressorConfig
) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    import copy

    import torch

    try:
        from neural_compressor.torch.export import export as capture
        from neural_compressor.torch.quantization import StaticQuantConfig, convert, prepare
    except ImportError as error:
        raise MissingDependencyError(
            f"neural-compressor is not installed: {error}",
            hint="Install pocketformer[compress], or choose another candidate.",
        ) from error
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in feeds[0]]
    batches = [tuple(torch.from_numpy(feed[name]) for name in names) for feed in feeds]
    example = tuple(_at_least_two(value) for value in batches[0])
    axes = {0: torch.export.Dim("batch", min=1, max=1 << 16), 1: torch.export.Dim("sequence", min=1)}
    limit = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    if limit:
        axes[1] = torch.export.Dim("sequence", min=1, max=limit)
    settings = StaticQuantConfig(
        act_dtype=config.activation_type,
        act_sym=config.activation_symmetric,
        w_granularity="per_channel" if config.per_channel else "per_tensor",
    )
    wrapper = _LogitsOnly(copy.deepcopy(model).eval())
    try:
        with torch.no_grad():
            captured = capture(wrapper, example, dynamic_shapes={name: dict(axes) for name in names})
            prepared = prepare(captured, settings, example_inputs=example)
            for batch in batches:
                prepared(*batch)
            quantized: torch.nn.Module = convert(prepared)
    except Exception as error:  # torch.export and the observers raise whatever the model's code raises
        raise ModelError(
            f"neural-compressor could not quantize {type(model).__name__}: {type(error).__name__} {error}",
            hint="Choose another candidate; the others do not need this path.",
        ) from error
    return quantized, dict(zip(names, example, strict=True))


def _at_least_two(value: torch.Tensor) -> torch.Tensor:
    """Repeat a single row or column: torch.export fixes an axis whose example has size 1."""
    return value.repeat(2 if value.shape[0] == 1 else 1, 2 if value.shape[1] == 1 else 1)


def _LogitsOnly(model: torch.nn.Module) -> torch.nn.Module:  # noqa: N802
    """A module that takes the inputs by position and gives the logits alone, in evaluation mode."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        # Named, not *values: torch.export describes the free axes by the structure of the arguments.
        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            token_type_ids: torch.Tensor | None = None,
        ) -> torch.Tensor:
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            logits: torch.Tensor = self.model(
                input_ids=input_ids, attention_mask=attention_mask, **types
            ).logits
            return logits

    return Logits().eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back the noise of neural-compressor and of torchao, which it imports.

    torchao reports kernels that this machine does not have on stderr when imported, and both libraries log
    every step at INFO through handlers of their own.
    """
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
