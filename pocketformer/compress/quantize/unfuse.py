"""Take onnxruntime's fused embedding look-ups apart, so that each table can be stored in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.quantize.graph_state import put_in_place

if TYPE_CHECKING:
    from onnx import NodeProto

_MICROSOFT = "com.microsoft"


def unfuse_embeddings(model: Any) -> int:
    """Take every EmbedLayerNormalization of ``model`` apart, in place; how many there were.

    word[ids] + position[0 .. sequence) + type[type ids], then LayerNormalization; its second output, the
    number of visible tokens in each row, is summed from the mask where something reads it.
    """
    from onnx import helper

    graph = model.graph
    fused = [node for node in graph.node if node.op_type == "EmbedLayerNormalization"]
    for number, node in enumerate(fused):
        read = {name for other in graph.node for name in other.input} | {item.name for item in graph.output}
        new = _single_operators(graph, node, f"embeddings_{number}", read)
        put_in_place(graph, node, new)
    if fused and not any(item.domain == _MICROSOFT for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return len(fused)


def _single_operators(graph: Any, node: NodeProto, prefix: str, read: set[str]) -> list[NodeProto]:
    from onnx import TensorProto, helper, numpy_helper

    names = [*node.input, *[""] * (9 - len(node.input))]
    ids, types, words, positions, segments, gamma, beta, mask, position_ids = names
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-12)
    outputs = [*node.output, *[""] * (3 - len(node.output))]
    nodes: list[NodeProto] = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(value: list[int] | int, suffix: str) -> str:
        array = np.array(value, np.int64)
        graph.initializer.append(numpy_helper.from_array(array, f"{prefix}_{suffix}"))
        return f"{prefix}_{suffix}"

    total = add("Gather", [words, ids], f"{prefix}_word")
    if not position_ids:
        shape = add("Shape", [ids], f"{prefix}_shape")
        length = add("Gather", [shape, constant(1, "axis")], f"{prefix}_length")
        position_ids = add(
            "Range", [constant(0, "zero"), length, constant(1, "one")], f"{prefix}_position_ids"
        )
    position = add("Gather", [positions, position_ids], f"{prefix}_position")
    total = add("Add", [total, position], f"{prefix}_sum")
    if types and segments:
        total = add("Add", [total, add("Gather", [segments, types], f"{prefix}_type")], f"{prefix}_all")
    if outputs[2] and outputs[2] in read:
        add("Identity", [total], outputs[2])
    add("LayerNormalization", [total, gamma, beta], outputs[0], axis=-1, epsilon=epsilon)
    if outputs[1] and outputs[1] in read:
        # Attention takes the count as int32, whatever the mask's own type.
        summed = add("ReduceSum", [mask, constant([1], "mask_axes")], f"{prefix}_visible", keepdims=0)
        add("Cast", [summed], outputs[1], to=TensorProto.INT32)
    return nodes
