"""The int8 products of a static QDQ graph, each for itself: what comes before and after them is computed in float.

Float kernels round in their last bits as each processor likes; now and then such a bit moves an activation to the code
next to it, and a whole model's logits with it. The products themselves are integers, and leave no room.
"""

from __future__ import annotations

from typing import Any

_PRODUCTS = ("MatMul", "Gemm")


def products_of(model: Any) -> Any:
    """A graph (onnx.ModelProto) with every quantized product of ``model`` side by side.

    Its inputs are the float tensors that ``model`` quantizes for a product, by their names there; its outputs what
    the products give after their own quantization. ``ValueError`` when there is none.
    """
    from onnx import TensorProto, helper

    producer = {output: node for node in model.graph.node for output in node.output}
    consumers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    kept: dict[str, Any] = {}  # by output, so that what several products share stands there once
    inputs: dict[str, None] = {}
    outputs: list[str] = []
    for node in model.graph.node:
        sources = [producer[name] for name in node.input if name in producer]
        factors = [producer[name].op_type for name in node.input[:2] if name in producer]
        if node.op_type not in _PRODUCTS or factors != ["DequantizeLinear"] * 2:
            continue
        quantize = producer[sources[0].input[0]]
        inputs[quantize.input[0]] = None
        chain = [quantize, *sources, node]
        for kind in ("QuantizeLinear", "DequantizeLinear"):
            following = [n for n in consumers.get(chain[-1].output[0], ()) if n.op_type == kind]
            chain += following[:1]
        kept.update({part.output[0]: part for part in chain})
        outputs.append(chain[-1].output[0])
    if not outputs:
        raise ValueError("the graph holds no quantized product")
    needed = {name for part in kept.values() for name in part.input}
    graph = helper.make_graph(
        list(kept.values()),
        "products",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
