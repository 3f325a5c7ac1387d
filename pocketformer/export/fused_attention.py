"""onnxruntime's fused ``Attention``, taken apart again where queries must be others than keys and values.

Both operators are described in onnxruntime's ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def is_fused_attention(node: Any) -> bool:
    """Whether this is the operator that onnxruntime's optimizer makes of a layer's attention."""
    return bool(node.op_type == "Attention" and node.domain == "com.microsoft")


def can_be_split(node: Any, graph: Any, rank_of: Callable[[str], int | None]) -> bool:
    """Whether it is plain self-attention: constant weights and biases, at most a mask [batch, sequence] beside."""
    inputs = list(node.input) + [""] * (4 - len(node.input))
    constant = {item.name for item in graph.initializer}
    known = {"num_heads", "mask_filter_value", "scale"}
    return (
        len([name for name in node.input[4:] if name]) == 0
        and inputs[1] in constant
        and inputs[2] in constant
        and (not inputs[3] or rank_of(inputs[3]) == 2)
        and {attribute.name for attribute in node.attribute} <= known
    )


def split_attention(graph: Any, node: Any, *, query: str) -> list[Any]:
    """The same attention for the first query alone: a product each for query, key and value, then their attention."""
    import numpy as np
    from onnx import helper, numpy_helper

    tensors = {item.name: item for item in graph.initializer}
    weights = np.split(numpy_helper.to_array(tensors[node.input[1]]), 3, axis=1)
    biases = np.split(numpy_helper.to_array(tensors[node.input[2]]), 3)
    source, output = node.input[0], node.output[0]
    made, parts = [], []
    for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        name = f"{output}_{part}"
        for what, value in (("weight", weight), ("bias", bias)):
            constant = numpy_helper.from_array(np.ascontiguousarray(value), f"{name}_{what}")
            graph.initializer.append(constant)
        read = query if part == "query" else source
        product = helper.make_node(
            "MatMul", [read, f"{name}_weight"], [f"{name}_product"], name=f"{name}_product"
        )
        made += [product, helper.make_node("Add", [f"{name}_product", f"{name}_bias"], [name], name=name)]
        parts.append(name)
    mask = ["", node.input[3]] if len(node.input) > 3 and node.input[3] else []
    attention = helper.make_node(
        "MultiHeadAttention", [*parts, *mask], [output], name=f"{output}_attention", domain="com.microsoft"
    )
    attention.attribute.extend(node.attribute)
    return [*made, attention]
