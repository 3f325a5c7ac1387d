"""LiteRT (``.tflite``), for Android above all: a torch classifier through litert-torch, in float32 or int8.

One file holds the weights once and a signature ``tokens_LENGTH`` for each length that is asked for, because LiteRT
plans fixed shapes; a text runs in the shortest that holds it (``runtime.backends.litert``). Inputs are int32
[1, LENGTH], the output is ``logits`` float32 [1, labels].

int8 is dynamic-range: weights int8 by channel, activations rounded while it runs (ai-edge-quantizer,
``dynamic_wi8_afp32``). Its static recipes were tried on the demo's model and left out: logits were off by more than 100
(docs/formats.md).
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketformer.runtime.errors import ExportError, MissingDependencyError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import torch

LitertPrecision = Literal["fp32", "int8"]
INSTALL = 'pip install "pocketformer[litert-export]"'
_SHORTEST = 16


def signature_lengths(max_length: int) -> tuple[int, ...]:
    """16, 32, 64 and so on below ``max_length``, and that itself: each length costs time to convert, and no weights."""
    lengths = [_SHORTEST << doubled for doubled in range(20) if _SHORTEST << doubled < max_length]
    return (*lengths, max_length)


def require_litert() -> None:
    """Raise ``MissingDependencyError`` unless everything that writes and runs LiteRT files is installed."""
    from importlib import util

    packages = {
        "litert_torch": "litert-torch",
        "ai_edge_quantizer": "ai-edge-quantizer",
        "ai_edge_litert": "ai-edge-litert",
    }
    missing = [name for module, name in packages.items() if util.find_spec(module) is None]
    if missing:
        raise MissingDependencyError(
            f"LiteRT files are written with {', '.join(missing)}, not installed here",
            hint=f"Install it, 2 GB with torch, best in an environment of its own: {INSTALL}.",
        )


def write_litert(
    model: torch.nn.Module,
    inputs: Sequence[str],
    output: Path,
    *,
    lengths: Sequence[int],
    precision: LitertPrecision = "int8",
) -> StepResult[Path]:
    """Write ``model``, which takes ``inputs`` and gives logits, as the LiteRT file ``output``.

    Metrics: ``bytes`` and ``signatures``. Raises ``MissingDependencyError`` without the converter, ``ExportError`` when
    it or the quantizer fails.
    """
    require_litert()
    output.parent.mkdir(parents=True, exist_ok=True)
    was_training = model.training
    model.eval()
    try:
        with _quiet():
            _convert(model, inputs, output, lengths)
            if precision == "int8":
                _quantize(output)
    except Exception as error:  # converters raise whatever the model's own code raises
        output.unlink(missing_ok=True)
        raise ExportError(
            f"litert-torch could not convert {type(model).__name__}: {(str(error).splitlines() or [''])[0][:300]}",
            hint="Try --precision fp32, or ship the ONNX bundle: onnxruntime runs on Android as well.",
        ) from error
    finally:
        model.train(was_training)
    return StepResult(
        output=output, metrics={"bytes": float(output.stat().st_size), "signatures": float(len(lengths))}
    )


def _convert(model: Any, inputs: Sequence[str], output: Path, lengths: Sequence[int]) -> None:
    import litert_torch
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **values: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.model(**values).logits}

    module, converter = Logits().eval(), litert_torch.Converter()
    for length in lengths:
        sample = {name: torch.ones(1, length, dtype=torch.int32) for name in inputs}
        if "token_type_ids" in sample:
            sample["token_type_ids"] = torch.zeros(1, length, dtype=torch.int32)
        converter.signature(f"tokens_{length}", module, sample_kwargs=sample)
    converter.convert().export(str(output))


def _quantize(path: Path) -> None:
    """Put int8 weights into the file at ``path``."""
    from ai_edge_quantizer import quantizer, recipe

    work = quantizer.Quantizer(str(path), recipe.dynamic_wi8_afp32())
    done = work.quantize(enable_progress_bar=False, enable_progress_report=False)
    path.write_bytes(bytes(done.quantized_model))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both tools print their progress and warn of each other's deprecations."""
    before = logging.root.manager.disable
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
        logging.disable(before)
