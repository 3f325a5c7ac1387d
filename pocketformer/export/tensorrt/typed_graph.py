"""One explicit, typed ONNX file that TensorRT 10 and 11 both take: what computes in which precision stands in it.

TensorRT 11 has no precision flags and no calibrators any more. So float16 is Cast nodes and float16 weights
(``half_precision``), int8 is symmetric QuantizeLinear and DequantizeLinear with zero zero-points, which a quantizer
has put there before, and both together are float16 scales. Nothing is left for a builder to decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.export.graph_file import all_nodes, load_graph, save_graph
from pocketformer.export.tensorrt.half_precision import to_half_precision
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import ExportError, InputError, ParityError
from pocketformer.runtime.manifest import SessionSettings
from pocketformer.runtime.results import StepResult
from pocketformer.runtime.tensorrt.config import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear")
# From here on QuantizeLinear and DequantizeLinear take float16.
_HALF_SCALES_OPSET = 19
# From here to the one above, operators only learn more types and options: the number alone is raised.
_ADDITIVE_OPSET = 18


@dataclass(frozen=True)
class Agreement:
    """How near one graph's logits are to another's over ``rows`` inputs.

    ``max_abs_difference`` is in logits, ``same_label`` the share of rows with the same largest logit.
    """

    max_abs_difference: float
    same_label: float
    rows: int


def write_typed_graph(source: Path, output: Path, *, fp16: bool) -> StepResult[Path]:
    """Write the typed form of ``source`` (fp32, or int8 as symmetric Q/DQ) to the ONNX file ``output``.

    ``fp16`` False keeps the floats as they are. Inputs and outputs keep their names, types and axes: token ids
    int64, logits float32.

    Metrics: ``bytes``; with ``fp16`` also ``half_nodes``, ``float_nodes``, ``casts`` and ``clamped_constants``.
    Raises ``ModelError`` when ``source`` is no ONNX file, ``ExportError`` when it is fused, has float16 in it
    already, or needs a newer opset than bundles promise.
    """
    model = load_graph(source)
    metrics: dict[str, float] = {}
    notes: list[str] = []
    if fp16:
        if "fp16" in _precision(model):
            raise ExportError(f"{source} has float16 weights already", hint="Start from the fp32 graph.")
        if _is_quantized(model):
            model = _with_half_scales(model, source)
        done = to_half_precision(model)
        metrics = {
            "half_nodes": float(done.half_nodes),
            "float_nodes": float(done.float_nodes),
            "casts": float(done.casts),
            "clamped_constants": float(done.clamped),
        }
        notes.append(
            f"{done.half_nodes} nodes compute in float16, {done.float_nodes} stay in float32; "
            f"{done.clamped} constants beyond float16's range were clamped"
        )
    save_graph(model, output)
    metrics["bytes"] = float(output.stat().st_size)
    return StepResult(output=output, metrics=metrics, notes=notes)


def graph_precision(path: Path) -> Precision:
    """The precision that stands in the ONNX file at ``path``; ``ModelError`` when it is none."""
    return _precision(load_graph(path))


def agreement(reference: Path, typed: Path, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> Agreement:
    """Compare the logits of two graphs in onnxruntime on the CPU.

    Q/DQ is computed as it is written: onnxruntime would put its own int8 kernels in its place, and on a processor
    without VNNI those saturate, which says nothing of an engine. ``feeds`` are arrays by input name. Raises
    ``InputError`` without feeds and ``ParityError`` when ``typed`` gives something that is not a number: then
    float16's range does not hold this model.
    """
    import numpy as np

    if not feeds:
        raise InputError("two graphs are compared on inputs, and there are none", hint="Pass some feeds.")
    as_written = SessionSettings(graph_optimization="basic")
    before, after = OnnxRuntimeEngine(reference, as_written), OnnxRuntimeEngine(typed, as_written)
    largest, same, rows = 0.0, 0.0, 0
    for feed in feeds:
        expected, actual = before.run(feed), after.run(feed)
        if not np.isfinite(actual).all():
            raise ParityError(
                f"{typed} gives logits that are not numbers where {reference} gives numbers",
                hint="This model's activations do not fit float16: build in fp32 or int8.",
            )
        largest = max(largest, float(np.abs(actual - expected).max()))
        same += float((actual.argmax(-1) == expected.argmax(-1)).mean()) * len(expected)
        rows += len(expected)
    return Agreement(max_abs_difference=largest, same_label=same / rows, rows=rows)


def _precision(model: Any) -> Precision:
    from onnx import TensorProto

    half = any(item.data_type == TensorProto.FLOAT16 for item in model.graph.initializer)
    if _is_quantized(model):
        return "int8-fp16" if half else "int8"
    return "fp16" if half else "fp32"


def _is_quantized(model: Any) -> bool:
    return any(node.op_type in _QUANTIZED for node in all_nodes(model.graph))


def _with_half_scales(model: Any, source: Path) -> Any:
    """The model with an opset in which scales may be float16."""
    import onnx

    standard = next(item for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if standard.version >= _HALF_SCALES_OPSET:
        return model
    if standard.version >= _ADDITIVE_OPSET:
        standard.version = _HALF_SCALES_OPSET
        return model
    try:
        return onnx.version_converter.convert_version(model, _HALF_SCALES_OPSET)
    except Exception as error:  # its adapters raise whatever they meet
        raise ExportError(
            f"{source} cannot be raised from opset {standard.version} to {_HALF_SCALES_OPSET}, which float16 scales "
            f"need: {error}",
            hint=f"Export with opset {_ADDITIVE_OPSET} or {_HALF_SCALES_OPSET}.",
        ) from error
