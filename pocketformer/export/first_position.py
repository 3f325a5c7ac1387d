"""Compute only what the classification head reads: one position of the last layer, not all of them.

A BERT-like classifier looks at the first position of its last hidden state alone. That layer still needs the keys
and values of every position; its queries, attention output, feed-forward network and normalizations are needed
once a text. Exporters compute them for every position and then throw all but one away. Here the head's Gather is
carried backwards through the operators that treat positions alike, until a Slice of the layer's input stands where
the layer begins. What is computed stays the same; in a student of three layers a quarter of the products goes.

onnxruntime does the same for training graphs (its "upstream gather" optimization), but not for inference. No
operator is recognised by a model's name, so every family that reads one position gains, from either exporter. An
``Attention`` that onnxruntime's optimizer fused becomes products and a ``MultiHeadAttention``, which takes queries
apart from keys and values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketformer.export.fused_attention import can_be_split, is_fused_attention, split_attention
from pocketformer.export.graph_file import all_nodes, load_graph, save_graph
from pocketformer.export.parity import DEFAULT_TOLERANCE, check_rewrite
from pocketformer.runtime.results import StepResult

# Each output element depends on the input element of the same index alone (constants beside it aside).
_ELEMENTWISE = frozenset(
    (
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Where",
        "Erf",
        "Tanh",
        "Sigmoid",
        "Relu",
        "Gelu",
        "Elu",
        "Softplus",
        "Sqrt",
        "Neg",
        "Abs",
        "Exp",
        "Cast",
        "Identity",
        "Clip",
        "QuantizeLinear",
        "DequantizeLinear",
    )
)
# Each output element depends on the input along one axis, which the node names.
_ALONG_AN_AXIS = frozenset(("Softmax", "LogSoftmax", "LayerNormalization"))


def compute_first_position_only(
    onnx_path: Path, output: Path, *, tolerance: float = DEFAULT_TOLERANCE
) -> StepResult[Path]:
    """Write ``onnx_path``, plain or fused, to ``output`` so that its last layer computes what the head reads.

    Metrics: ``nodes_on_first_position`` (0 when the head reads more than one position: the file is then a copy)
    and ``max_abs_difference`` of the logits. Raises ``ParityError`` when that is above ``tolerance``.
    """
    graph = load_graph(onnx_path)
    nodes = keep_first_position(graph)
    save_graph(graph, output)
    difference = 0.0
    if nodes:
        difference = check_rewrite(
            onnx_path,
            output,
            tolerance=tolerance,
            what="computing one position of the last layer",
            hint="Use the graph as it is, and report this model's family.",
        )
    metrics = {"nodes_on_first_position": float(nodes), "max_abs_difference": difference}
    return StepResult(output=output, metrics=metrics)


def keep_first_position(model: Any) -> int:
    """Rewrite the ``onnx.ModelProto`` in place; how many nodes now see one position (0: nothing was changed).

    Nothing is changed when the graph does not end in a Gather of one position of a tensor [batch, sequence, ...].
    Shapes of reshapes are followed by their structure, so compare the logits afterwards.
    """
    graph = _Graph(model)
    for head in graph.head_gathers():
        demands = _Demands(graph)
        demands.want(head, 0, axis=1)
        demands.carry_back()
        if demands.narrowed:
            demands.apply(head)
            return len(demands.narrowed)
    return 0


class _Graph:
    """Who makes and who reads each tensor, the constants, and the ranks."""

    def __init__(self, model: Any) -> None:
        import onnx
        from onnx import numpy_helper

        self.proto = model.graph
        self.nodes: list[Any] = list(model.graph.node)
        self.producer = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self.readers: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            for position, name in enumerate(node.input):
                self.readers[name].append((index, position))
        self.outputs = {item.name for item in model.graph.output}
        self.shapes: dict[str, list[int | None]] = {}
        self._state_ranks_of_fused(model)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        for item in (*inferred.input, *inferred.value_info, *inferred.output):
            kind = item.type.tensor_type
            if kind.HasField("shape"):
                self.shapes[item.name] = [
                    dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim
                ]
        self.constants: dict[str, Any] = {}
        for item in model.graph.initializer:
            self.shapes[item.name] = list(item.dims)
            if item.ByteSize() < 4096:
                self.constants[item.name] = numpy_helper.to_array(item)
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                value = numpy_helper.to_array(node.attribute[0].t)
                self.shapes[node.output[0]] = list(value.shape)
                self.constants[node.output[0]] = value

    def _state_ranks_of_fused(self, model: Any) -> None:
        """Say what shape inference does not know: what a fused attention gives is [batch, sequence, width]."""
        from onnx import TensorProto, helper

        for node in self.nodes:
            if is_fused_attention(node):
                stated = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [None, None, None])
                model.graph.value_info.append(stated)

    def head_gathers(self) -> Iterator[int]:
        """Nodes that take one fixed position of a [batch, sequence, ...] tensor, the last first."""
        for index in reversed(range(len(self.nodes))):
            node = self.nodes[index]
            if node.op_type != "Gather" or _attribute(node, "axis", 0) != 1:
                continue
            position = self.constants.get(node.input[1])
            rank = self.rank(node.input[0])
            if position is not None and position.ndim == 0 and int(position) == 0 and rank and rank >= 3:
                yield index

    def rank(self, name: str) -> int | None:
        shape = self.shapes.get(name)
        return None if shape is None else len(shape)


@dataclass
class _Demands:
    """Which readers need only the first index along which axis of what they read."""

    graph: _Graph
    wanted: dict[tuple[int, int], int] = field(default_factory=dict)
    narrowed: dict[int, int] = field(default_factory=dict)  # node -> axis of its output

    def want(self, node: int, position: int, *, axis: int) -> None:
        self.wanted[node, position] = axis

    def carry_back(self) -> None:
        """From the last node to the first: a node all of whose readers want one index is narrowed itself."""
        for index in reversed(range(len(self.graph.nodes))):
            axis = self._axis_wanted_of(index)
            if axis is None:
                continue
            inputs = self._inputs_for(index, axis)
            if inputs is not None:
                self.narrowed[index] = axis
                for position, at in inputs.items():
                    self.want(index, position, axis=at)

    def _axis_wanted_of(self, index: int) -> int | None:
        node = self.graph.nodes[index]
        if len(node.output) != 1 or node.output[0] in self.graph.outputs:
            return None
        axes = set()
        for reader in self.graph.readers[node.output[0]]:
            axis = self.wanted.get(reader)
            if axis is not None:
                axes.add(axis)
            elif not self._reads_last_size(reader[0]):
                return None
        return axes.pop() if len(axes) == 1 else None

    def _reads_last_size(self, index: int) -> bool:
        """Whether the node looks at the tensor's shape for the size of its last axis alone, the size of a head."""
        node = self.graph.nodes[index]
        if node.op_type != "Shape":
            return False
        last = (self.graph.rank(node.input[0]) or 0) - 1
        for reader, _ in self.graph.readers[node.output[0]]:
            following = self.graph.nodes[reader]
            start = self.graph.constants.get(following.input[1]) if len(following.input) > 1 else None
            if following.op_type not in ("Slice", "Gather") or start is None or start.size != 1:
                return False
            if int(start.reshape(())) not in (-1, last):
                return False
        return last > 0

    def _inputs_for(self, index: int, axis: int) -> dict[int, int] | None:
        """The axis wanted of each input so that the output has one index along ``axis``; None: not this operator."""
        node = self.graph.nodes[index]
        rank = self.graph.rank(node.output[0])
        if is_fused_attention(node):
            return {} if axis == 1 and can_be_split(node, self.graph.proto, self.graph.rank) else None
        if rank is None or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in _ELEMENTWISE:
            return self._of_elementwise(node, axis, rank)
        if node.op_type in _ALONG_AN_AXIS:
            along = _attribute(node, "axis", -1) % rank
            blocked = axis >= along if node.op_type == "LayerNormalization" else axis == along
            return None if blocked else {0: axis}
        if node.op_type == "MatMul":
            return self._of_product(node, axis, rank)
        if node.op_type == "Transpose":
            order = _attribute(node, "perm", None)
            return {0: list(order)[axis]} if order is not None else None
        if node.op_type == "Reshape":
            return {0: 1} if axis == 1 and self._keeps_positions(node) else None
        return None

    def _of_elementwise(self, node: Any, axis: int, rank: int) -> dict[int, int] | None:
        if node.op_type.endswith("Linear") and any(self.graph.shapes.get(name) for name in node.input[1:]):
            return None  # scales of their own for each channel
        wanted = {}
        for position, name in enumerate(node.input):
            shape = self.graph.shapes.get(name)
            if shape is None:
                return None
            at = axis - (rank - len(shape))
            if at >= 0 and shape[at] != 1:
                wanted[position] = at
        return wanted

    def _of_product(self, node: Any, axis: int, rank: int) -> dict[int, int] | None:
        left, right = (self.graph.rank(name) for name in node.input)
        if left != rank or right is None or axis == rank - 1:
            return None
        return {0: axis} if axis == rank - 2 or right == 2 else None

    def _keeps_positions(self, node: Any) -> bool:
        """Whether a Reshape leaves the first two axes alone: [batch, sequence, ...] with fixed sizes behind."""
        sizes = self._sizes(node.input[1])
        source = self.graph.rank(node.input[0])
        return (
            source is not None
            and source >= 3
            and sizes is not None
            and len(sizes) >= 3
            and all(size is not None and size > 0 for size in sizes[2:])
        )

    def _sizes(self, name: str) -> list[int | None] | None:
        """The target of a Reshape, None for each size that is computed."""
        constant = self.graph.constants.get(name)
        if constant is not None:
            return [int(value) for value in constant]
        producer = self.graph.producer.get(name)
        if producer is None or self.graph.nodes[producer].op_type != "Concat":
            return None
        sizes: list[int | None] = []
        for part in self.graph.nodes[producer].input:
            value = self.graph.constants.get(part)
            if value is not None:
                sizes += [int(v) for v in value]
            elif self.graph.shapes.get(part) == [1]:
                sizes.append(None)
            else:
                return None
        return sizes

    def apply(self, head: int) -> None:
        """Put a Slice on every edge between what keeps all positions and what sees one; write the new nodes."""
        rewritten: list[Any] = []
        made: set[str] = set()

        def first(name: str, axis: int) -> str:
            output = f"{name}_first_position_{axis}"
            if output not in made:
                made.add(output)
                rewritten.extend(_slice(name, axis, output))
            return output

        for index, node in enumerate(self.graph.nodes):
            if index not in self.narrowed and index != head:
                rewritten.append(node)
                continue
            for position, name in enumerate(node.input):
                axis = self.wanted.get((index, position))
                if axis is not None and self.graph.producer.get(name) not in self.narrowed:
                    node.input[position] = first(name, axis)
            if is_fused_attention(node):
                rewritten += split_attention(self.graph.proto, node, query=first(node.input[0], 1))
                continue
            if node.op_type == "Reshape":
                rewritten.append(self._one_position(node))
            rewritten.append(node)
        del self.graph.proto.node[:]
        self.graph.proto.node.extend(rewritten)
        read = {name for node in all_nodes(self.graph.proto) for name in node.input}
        for item in [item for item in self.graph.proto.initializer if item.name not in read]:
            self.graph.proto.initializer.remove(item)  # packed weights that were taken apart

    def _one_position(self, node: Any) -> Any:
        """The sizes for a Reshape that now sees one position, which its own count of positions no longer fits."""
        name = f"{node.output[0]}_sizes"
        fixed = [size for size in (self._sizes(node.input[1]) or [])[2:] if size is not None]
        node.input[1] = name
        return _constant(name, [-1, 1, *fixed])


def _slice(name: str, axis: int, output: str) -> list[Any]:
    """Nodes that keep the first index of ``name`` along ``axis``."""
    from onnx import helper

    bounds = [f"{output}_{what}" for what in ("start", "end", "axis")]
    made = [_constant(bound, [value]) for bound, value in zip(bounds, (0, 1, axis), strict=True)]
    return [*made, helper.make_node("Slice", [name, *bounds], [output], name=output)]


def _constant(name: str, values: list[int]) -> Any:
    from onnx import TensorProto, helper

    tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
    return helper.make_node("Constant", [], [name], value=tensor)


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default
