"""From a torch classifier to one ONNX file, by one of two exporters behind one function.

``optimum`` traces the model (TorchScript): its graphs are those that onnxruntime fuses on CPU.
``dynamo`` goes through ``torch.export``: for models that cannot be traced, and for modules that hold
quantizers. Everything that touches optimum stands in ``_with_optimum``, because optimum-onnx pins an older
transformers: with a newer one that exporter is lost and the rest still works.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.export.graph_file import LARGEST_OPSET, load_graph, save_graph
from pocketformer.runtime.errors import ExportError, MissingDependencyError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import torch

EXPORTERS = ("optimum", "dynamo")
DEFAULT_OPSET = 18
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"
_SMALLEST_OPSET = 17  # LayerNormalization is one node from here on
_EXAMPLE_BATCH, _EXAMPLE_SEQUENCE = 2, 8
_log = logging.getLogger(__name__)


def export_onnx(
    model: torch.nn.Module,
    tokenizer_dir: Path,
    output: Path,
    *,
    exporter: str = "optimum",
    opset: int | None = None,
) -> StepResult[Path]:
    """Write a Hugging Face sequence classifier as the single ONNX file ``output``.

    The graph takes int64 ``input_ids``, ``attention_mask`` and, when the tokenizer in ``tokenizer_dir``
    makes them and the model has them, ``token_type_ids``, each [batch, sequence] with both axes dynamic;
    it gives float32 ``logits`` [batch, labels]. Pruned models, with another number of heads and another
    width in each layer, export like any other. ``output`` may be a directory: then ``model.onnx`` in it.

    Metrics: ``bytes``, ``nodes``, ``opset``, ``ir_version``. Raises ``ExportError`` when the exporter
    fails, ``MissingDependencyError`` when it is not installed.
    """
    if exporter not in EXPORTERS:
        raise ExportError(f"there is no exporter {exporter!r}", hint=f"Use one of {', '.join(EXPORTERS)}.")
    chosen = DEFAULT_OPSET if opset is None else opset
    if not _SMALLEST_OPSET <= chosen <= LARGEST_OPSET:
        raise ExportError(
            f"opset {chosen} is not supported", hint=f"Use one from {_SMALLEST_OPSET} to {LARGEST_OPSET}."
        )
    path = output / "model.onnx" if output.is_dir() else output
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = model_inputs(model, tokenizer_dir)
    with _evaluating(model), _quiet():
        try:
            if exporter == "optimum":
                _with_optimum(model, inputs, path, chosen)
            else:
                _with_dynamo(_LogitsOnly(model), _example(inputs, _smallest_vocabulary(model)), path, chosen)
        except (ExportError, MissingDependencyError):
            raise
        except Exception as error:  # exporters raise whatever the model's own code raises
            path.unlink(missing_ok=True)
            raise ExportError(
                f"{exporter} could not export {type(model).__name__}: {error}",
                hint="Try the other exporter: " + " or ".join(e for e in EXPORTERS if e != exporter) + ".",
            ) from error
    graph = _finish(path, inputs)
    notes = (
        []
        if "token_type_ids" in inputs
        else ["the graph has no token_type_ids: this model does not use them"]
    )
    return StepResult(
        output=path,
        metrics={
            "bytes": float(path.stat().st_size),
            "nodes": float(len(graph.graph.node)),
            "opset": float(chosen),
            "ir_version": float(graph.ir_version),
        },
        notes=notes,
    )


def export_module(
    module: torch.nn.Module, example: Mapping[str, torch.Tensor], output: Path, *, opset: int | None = None
) -> Path:
    """Write any module that takes ``example``'s tensors in order and gives logits, through torch dynamo.

    For modules that a quantizer made (QuantizeLinear and DequantizeLinear inside): weights are folded to
    int8, so that the file has the size that its precision promises. Raises ``ExportError``.
    """
    chosen = DEFAULT_OPSET if opset is None else opset
    with _quiet():
        try:
            _with_dynamo(module, example, output, chosen)
        except Exception as error:
            output.unlink(missing_ok=True)
            raise ExportError(
                f"torch could not export {type(module).__name__} to ONNX: {error}",
                hint="Leave this candidate out; the others do not need this exporter.",
            ) from error
        _fold_quantized_weights(output)
    _finish(output, tuple(example))
    return output


def model_inputs(model: torch.nn.Module, tokenizer_dir: Path) -> tuple[str, ...]:
    """The inputs that the model's forward takes and its tokenizer makes, in the order of ``INPUTS``.

    A model with a single token type (RoBERTa) gets no ``token_type_ids``: they could only be zero.
    """
    taken = inspect.signature(model.forward).parameters
    inputs = [name for name in INPUTS if name in taken]
    missing = [name for name in INPUTS[:2] if name not in inputs]
    if missing:
        raise ExportError(
            f"{type(model).__name__} does not take {', '.join(missing)}", hint="Only text classifiers export."
        )
    types = int(getattr(model.config, "type_vocab_size", 0) or 0)
    names = _tokenizer_inputs(tokenizer_dir)
    if types < 2 or (names is not None and "token_type_ids" not in names):
        inputs = [name for name in inputs if name != "token_type_ids"]
    return tuple(inputs)


def _tokenizer_inputs(tokenizer_dir: Path) -> list[str] | None:
    """What ``tokenizer_config.json`` says that the tokenizer makes; None when it does not say."""
    import json

    try:
        settings = json.loads((tokenizer_dir / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    names = settings.get("model_input_names") if isinstance(settings, dict) else None
    return list(names) if isinstance(names, list) else None


def _with_optimum(model: torch.nn.Module, inputs: tuple[str, ...], path: Path, opset: int) -> None:
    """Trace with optimum's ONNX configuration of the model's family.

    ``main_export`` and ``onnx_export_from_model`` are left aside: they look up the model's name on a hub,
    which hangs for minutes without a network.
    """
    try:
        from optimum.exporters.onnx import export
        from optimum.exporters.tasks import TasksManager
    except ImportError as error:
        raise MissingDependencyError(
            f"the optimum exporter is not installed: {error}",
            hint="Install pocketformer[compress], or use the dynamo exporter.",
        ) from error
    constructor = TasksManager.get_exporter_config_constructor(
        exporter="onnx", model=model, task="text-classification", library_name="transformers"
    )
    config = constructor(model.config)
    if set(config.inputs) - set(inputs):
        config = _narrowed(config, inputs)
    shapes = {"batch_size": _EXAMPLE_BATCH, "sequence_length": _EXAMPLE_SEQUENCE}
    export(model=model, config=config, output=path, opset=opset, input_shapes=shapes)


def _narrowed(config: Any, inputs: tuple[str, ...]) -> Any:
    """The same ONNX configuration with fewer inputs."""

    class Narrowed(type(config)):  # type: ignore[misc]
        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {name: axes for name, axes in super().inputs.items() if name in inputs}

    config.__class__ = Narrowed
    return config


def _with_dynamo(module: Any, example: Mapping[str, torch.Tensor], path: Path, opset: int) -> None:
    import torch

    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    sequence = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        module,
        tuple(example.values()),
        str(path),
        input_names=list(example),
        output_names=[OUTPUT],
        dynamic_shapes=tuple({0: batch, 1: sequence} for _ in example),
        opset_version=opset,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


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


def _example(inputs: tuple[str, ...], vocabulary: int) -> dict[str, torch.Tensor]:
    import torch

    shape = (_EXAMPLE_BATCH, _EXAMPLE_SEQUENCE)
    ids = torch.arange(shape[0] * shape[1]).reshape(shape) % vocabulary
    # A mask with a hole at the end keeps exporters from folding "everything is visible" into the graph.
    mask = torch.ones(shape, dtype=torch.long)
    mask[-1, -1] = 0
    values = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.zeros(shape, dtype=torch.long),
    }
    return {name: values[name] for name in inputs}


def _smallest_vocabulary(model: torch.nn.Module) -> int:
    return int(getattr(model.config, "vocab_size", 2))


def _fold_quantized_weights(path: Path) -> None:
    """Compute QuantizeLinear of constant weights once, by onnxruntime's basic optimizations, in place."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    folded = path.with_suffix(".folded.onnx")
    options.optimized_model_filepath = str(folded)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    folded.replace(path)


def _finish(path: Path, inputs: tuple[str, ...]) -> Any:
    """Tidy the written file and hold it to what was promised: one file, these inputs, one output."""
    if not path.is_file():
        raise ExportError(f"the exporter wrote nothing to {path}", hint="Try the other exporter.")
    graph = load_graph(path)
    names = tuple(item.name for item in graph.graph.input)
    outputs = [item.name for item in graph.graph.output]
    if set(names) != set(inputs) or outputs != [OUTPUT]:
        raise ExportError(
            f"the exported graph takes {', '.join(names)} and gives {', '.join(outputs)} instead of "
            f"{', '.join(inputs)} and {OUTPUT}",
            hint="Try the other exporter.",
        )
    for item in graph.graph.input:
        if any(dim.HasField("dim_value") for dim in item.type.tensor_type.shape.dim):
            raise ExportError(
                f"the exporter fixed an axis of {item.name}: the graph would take one shape only",
                hint="Try the other exporter.",
            )
    # Each exporter invents its own names for the free axes.
    for item in (*graph.graph.input, *graph.graph.output):
        for dim, name in zip(item.type.tensor_type.shape.dim, ("batch", "sequence"), strict=False):
            if not dim.HasField("dim_value") and (name == "batch" or item.name != OUTPUT):
                dim.dim_param = name
    for side in path.parent.glob(path.name + ".data*"):
        side.unlink()
    save_graph(graph, path)
    return graph


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout while exporting, then as before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what exporters tell about their own insides (tracer warnings, progress on stdout)."""
    import io

    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    captured = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(captured):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        if captured.getvalue():
            _log.debug("exporter: %s", captured.getvalue().strip())
