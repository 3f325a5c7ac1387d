"""The products with constant weights of a fp32 graph, and the second moments of what they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feeds = Sequence[Mapping[str, NDArray[np.int64]]]
_OPERATORS = ("MatMul", "Gemm", "Attention")


@dataclass(frozen=True)
class Product:
    """A weight float32 [inputs, outputs], the node that multiplies with it and the tensor that it reads.

    ``transposed``: the initializer ``name`` holds it as [outputs, inputs].
    """

    name: str
    node: Any
    read: str
    weight: NDArray[np.float32]
    transposed: bool


def constant_products(model: Any) -> list[Product]:
    """Every MatMul, Gemm and fused Attention whose weight is a float32 initializer of rank 2 that it alone reads."""
    from onnx import TensorProto, numpy_helper

    initializers = {item.name: item for item in model.graph.initializer}
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    found = []
    for node in model.graph.node:
        if node.op_type not in _OPERATORS or len(node.input) < 2:
            continue
        item = initializers.get(node.input[1])
        if item is None or item.data_type != TensorProto.FLOAT or len(item.dims) != 2:
            continue
        if readers[item.name] > 1 or any(a.name == "transA" and a.i for a in node.attribute):
            continue
        transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
        weight = numpy_helper.to_array(item)
        oriented = np.ascontiguousarray(weight.T if transposed else weight)
        found.append(Product(item.name, node, node.input[0], oriented, transposed))
    return found


def input_moments(model: Any, read: Sequence[str], feeds: Feeds) -> dict[str, NDArray[np.float64]]:
    """Second moments X^T X / rows [width, width] of each tensor of ``read`` over ``feeds``; padding does not count."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    names = list(dict.fromkeys(read))
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.value_info[:]
    present = {item.name for item in shown.graph.output}
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in present
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    wanted = [item.name for item in session.get_inputs()]
    sums: dict[str, Any] = {}
    rows = dict.fromkeys(names, 0)
    for feed in feeds:
        values = session.run(names, {name: feed[name] for name in wanted})
        for name, value in zip(names, values, strict=True):
            seen = _seen(value, feed.get("attention_mask")).astype(np.float64)
            sums[name] = sums.get(name, 0.0) + seen.T @ seen
            rows[name] += len(seen)
    return {name: np.asarray(total) / max(rows[name], 1) for name, total in sums.items()}


def _seen(value: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    """The rows [n, width] of a tensor [..., width] that belong to tokens, not to padding."""
    if mask is not None and value.ndim == 3 and value.shape[:2] == mask.shape:
        chosen: NDArray[Any] = value[mask.astype(bool)]
        return chosen
    return value.reshape(-1, value.shape[-1])
