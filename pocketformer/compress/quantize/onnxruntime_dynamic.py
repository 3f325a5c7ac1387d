"""Dynamic int8 by onnxruntime: weights int8 in the file, activations uint8 by their range in each call."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.compress.quantize.config import DynamicConfig
from pocketformer.compress.quantize.graph_state import load, load_unquantized, save
from pocketformer.runtime.errors import ModelError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Tables have their own rewrite (``embeddings``); onnxruntime would quantize one with a single scale.
_OPERATORS = ("MatMul", "Attention")


def quantize_dynamic(
    graph: Path,
    output: Path,
    config: DynamicConfig,
    calibration: Sequence[Mapping[str, NDArray[np.int64]]] = (),
) -> StepResult[Path]:
    """Write the dynamic int8 form of the fp32 ``graph``, plain or fused; ``calibration`` is for ``packed``.

    Metrics: ``bytes``, ``quantized_products`` and those of ``packed_weights``. Raises
    ``AlreadyQuantizedError`` for a quantized graph and ``ModelError`` when onnxruntime's quantizer fails.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as onnxruntime_quantize

    model = load_unquantized(graph)
    # Shapes that an exporter stored turn wrong with the rewriting, and the quantizer trusts them.
    del model.graph.value_info[:]
    weights = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}[config.weight_type]
    output.parent.mkdir(parents=True, exist_ok=True)
    with quiet():
        try:
            onnxruntime_quantize(
                model,
                str(output),
                op_types_to_quantize=list(_OPERATORS),
                # It turns a Gemm, as of classification heads, into a MatMul of another name first.
                nodes_to_exclude=[name + end for name in config.float_products for end in ("", "_MatMul")],
                per_channel=config.per_channel,
                reduce_range=config.reduce_range,
                weight_type=weights,
                # Outputs of com.microsoft operators have no inferred type; in this graph all are float (1).
                extra_options={"DefaultTensorType": 1, "MatMulConstBOnly": True},
            )
        except Exception as error:  # the quantizer raises whatever its passes meet
            output.unlink(missing_ok=True)
            raise ModelError(
                f"onnxruntime could not quantize {graph}: {error}", hint="Try another candidate."
            ) from error
    quantized = load(output)
    save(quantized, output)
    metrics: dict[str, float] = {}
    if config.packed is not None:
        from pocketformer.compress.quantize.packed_weights import pack_weights

        metrics = pack_weights(graph, output, config.packed, calibration)
    return StepResult(output=output, metrics=product_metrics(quantized, output) | metrics)


def product_metrics(model: Any, path: Path) -> dict[str, float]:
    """``bytes`` of the file and how many products compute in integers (``quantized_products``)."""
    integer = ("MatMulInteger", "QAttention", "QLinearMatMul")
    dequantized = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    count = 0
    for node in model.graph.node:
        between_pairs = node.op_type in ("MatMul", "Gemm") and set(node.input[:2]) <= dequantized
        count += node.op_type in integer or between_pairs
    return {"bytes": float(path.stat().st_size), "quantized_products": float(count)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what the quantizers log on the root logger (advice about pre-processing)."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
