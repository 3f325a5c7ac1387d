"""Rewrite a float32 graph so that it computes in float16 where that is safe, with every conversion a Cast node.

Mixed precision after Micikevicius et al., "Mixed Precision Training" (2018), section 3: products and elementwise
work in half, sums over many elements in single. Kept in float32 are

- operators that add up many elements or leave float16's range at once (``FLOAT_OPERATORS``): softmax, layer
  normalization, means, powers, roots, exponentials;
- arithmetic on positions: what ends in nothing but integers, booleans, sines or cosines, such as the buckets of T5's
  relative positions or the angles of rotary embeddings;
- nodes whose constants float16 cannot hold: an epsilon of 1e-12 would become 0.

Mask constants beyond float16's range, such as -3.4e38, become ``LARGEST_MASK`` with their sign. It is half of the
range, so that a score or a second mask that is added stays finite: a row that is masked throughout then has a
softmax, where infinities would give NaN. Graph inputs and outputs keep their type.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pocketformer.export.graph_file import all_nodes
from pocketformer.runtime.errors import ExportError

FLOAT_OPERATORS = frozenset(
    {
        "Cos", "CumSum", "Exp", "GroupNormalization", "If", "InstanceNormalization", "LayerNormalization", "Log",
        "LogSoftmax", "Loop", "LpNormalization", "MeanVarianceNormalization", "Pow", "Range", "Reciprocal",
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum",
        "ReduceSumSquare", "Resize", "Scan", "Sin", "Softmax", "SoftmaxCrossEntropyLoss", "Sqrt", "Sum",
        # Their element type stands in an attribute.
        "Bernoulli", "EyeLike", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "RandomUniformLike",
    }
)  # fmt: skip
# Where a mask's constant may stand; a large number in any other operator keeps that node in float32.
_MASK_OPERATORS = frozenset(
    {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
    | {
        "Add",
        "Clip",
        "Concat",
        "ConstantOfShape",
        "Expand",
        "Gather",
        "Identity",
        "Max",
        "Min",
        "Mul",
        "Slice",
    }
    | {"Sub", "Trilu", "Unsqueeze", "Where"}
)
# They only look at the shape, so they read whichever version of a tensor there is.
_SHAPE_OPERATORS = frozenset({"Shape", "Size"})
_ANGLE_OPERATORS = frozenset({"Cos", "Sin"})
_SCALED_OPERATORS = frozenset({"QuantizeLinear", "DequantizeLinear"})
LARGEST_HALF = 65504.0
LARGEST_MASK = 32752.0
SMALLEST_SCALAR = 2.0**-14  # the smallest number that float16 holds with all its digits
# A scale of quantization may be smaller: down to here rounding it costs at most 0.4%, half of what int8 costs.
SMALLEST_SCALE = 2.0**-17
_SUFFIX = "_float16"


@dataclass(frozen=True)
class HalfPrecision:
    """How many nodes compute in float16 and in float32, Cast nodes were added and constants were clamped."""

    half_nodes: int
    float_nodes: int
    casts: int
    clamped: int


def to_half_precision(model: Any) -> HalfPrecision:
    """Rewrite ``model`` (onnx.ModelProto, float32, standard operators only) in place.

    Raises ``ExportError`` for operators of other domains and for tensors whose type cannot be inferred.
    """
    return _Rewriting(model).run()


class _Rewriting:
    """One graph on its way; a float32 tensor ``x`` gets a float16 version ``x_float16`` where a node wants it."""

    def __init__(self, model: Any) -> None:
        foreign = [node for node in all_nodes(model.graph) if node.domain not in ("", "ai.onnx")]
        if foreign:
            raise ExportError(
                f"node {foreign[0].name or foreign[0].output[0]} is {foreign[0].domain}.{foreign[0].op_type}, whose "
                "precision is fixed inside of it",
                hint="Start from the plain graph that `pocketformer export` writes, before fusing.",
            )
        self.model = model
        self.graph = model.graph
        _constants_to_initializers(self.graph)
        self.initializers = {item.name: item for item in self.graph.initializer}
        self.floats = self._float_tensors()
        self.consumers: dict[str, list[Any]] = {}
        # Held on to for as long as their ids are used: protobuf makes wrappers anew once nobody holds them.
        self.nodes = list(self.graph.node)
        for node in self.nodes:
            for name in dict.fromkeys((*node.input, *_captured(node))):
                self.consumers.setdefault(name, []).append(node)
        self.outputs = {item.name for item in self.graph.output}
        self.casts = self.clamped = 0

    def run(self) -> HalfPrecision:
        positions = self._position_arithmetic()
        kept = {id(node) for node in self.nodes if self._stays_float(node) or id(node) in positions}
        half = [node for node in self.nodes if id(node) not in kept and self._touches_floats(node)]
        half_ids = {id(node) for node in half}
        made_half = {name for node in half for name in node.output if name in self.floats}
        need_half, need_float = set[str](), set(self.outputs)
        for node in self.nodes:
            if node.op_type in _SHAPE_OPERATORS:
                need_float.update(name for name in node.input if name in self.initializers)
                continue
            wants = need_half if id(node) in half_ids else need_float
            wants.update(name for name in (*node.input, *_captured(node)) if name in self.floats)
        self._half_initializers(need_half, need_float)
        rewritten: list[Any] = []
        for item in self.graph.input:
            if item.name in need_half and item.name not in self.initializers:
                rewritten.append(self._cast(item.name, item.name + _SUFFIX, half=True))
        for node in self.nodes:
            is_half = id(node) in half_ids
            if is_half:
                self._retype(node)
            self._rename(node, is_half, made_half)
            rewritten.append(node)
            for name in (name.removesuffix(_SUFFIX) if is_half else name for name in node.output):
                if name not in self.floats:
                    continue
                if is_half and name in need_float:
                    rewritten.append(self._cast(name + _SUFFIX, name, half=False))
                elif not is_half and name in need_half:
                    rewritten.append(self._cast(name, name + _SUFFIX, half=True))
        copies = [type(node).FromString(node.SerializeToString()) for node in rewritten]
        del self.graph.node[:]
        self.graph.node.extend(copies)
        del self.graph.value_info[:]
        floats = sum(id(node) in kept and self._touches_floats(node) for node in rewritten)
        return HalfPrecision(half_nodes=len(half), float_nodes=floats, casts=self.casts, clamped=self.clamped)

    def _float_tensors(self) -> set[str]:
        """Names of all float32 tensors of the main graph."""
        import onnx

        del self.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        types = {item.name: item.data_type for item in inferred.initializer}
        for item in (*inferred.input, *inferred.value_info, *inferred.output):
            types.setdefault(item.name, item.type.tensor_type.elem_type)
        for node in self.graph.node:
            unknown = [name for name in node.output if name and not types.get(name)]
            if unknown:
                raise ExportError(
                    f"the type of {unknown[0]}, which node {node.name or node.op_type} ({node.op_type}) gives, "
                    "cannot be inferred",
                    hint="Export with the other exporter, or build in fp32.",
                )
        return {name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT}

    def _touches_floats(self, node: Any) -> bool:
        return node.op_type not in _SHAPE_OPERATORS and any(
            name.removesuffix(_SUFFIX) in self.floats for name in (*node.input, *node.output)
        )

    def _position_arithmetic(self) -> set[int]:
        """Ids of nodes whose floats end in nothing but integers, booleans, sines and cosines."""
        found: set[int] = set()

        def ends_here(reader: Any) -> bool:
            # A quantized tensor is no index, though it is an integer too.
            integers = reader.op_type != "QuantizeLinear" and not self.floats & set(reader.output)
            return integers or reader.op_type in _ANGLE_OPERATORS or id(reader) in found

        for node in reversed(self.nodes):
            floats = [name for name in node.output if name in self.floats]
            readers = [reader for name in floats for reader in self.consumers.get(name, ())]
            measured_only = all(reader.op_type in _SHAPE_OPERATORS for reader in readers)
            if not measured_only and not self.outputs & set(floats) and all(map(ends_here, readers)):
                found.add(id(node))
        # The last node of a chain reads floats and gives none: it reads what the chain gives.
        chain = {name for node in self.nodes if id(node) in found for name in node.output}
        found.update(
            id(node)
            for node in self.nodes
            if chain & set(node.input) and not any(name in self.floats for name in node.output)
        )
        return found

    def _stays_float(self, node: Any) -> bool:
        if node.op_type in FLOAT_OPERATORS:
            return True
        return any(self._unfit(node, self.initializers[n]) for n in node.input if n in self.initializers)

    def _unfit(self, node: Any, tensor: Any) -> bool:
        """Whether float16 cannot hold what this constant means to this node."""
        import numpy as np
        from onnx import numpy_helper

        if tensor.name not in self.floats:
            return False
        values = np.abs(numpy_helper.to_array(tensor))
        values = values[np.isfinite(values) & (values > 0)]
        if values.size == 0:
            return False
        if values.max() > LARGEST_HALF and node.op_type not in _MASK_OPERATORS:
            return True
        if node.op_type in _SCALED_OPERATORS:
            return bool(values.min() < SMALLEST_SCALE)
        return bool(tensor_size(tensor) == 1 and values.min() < SMALLEST_SCALAR)

    def _half_initializers(self, need_half: set[str], need_float: set[str]) -> None:
        for name in [name for name in self.initializers if name in need_half]:
            half = self._half_tensor(self.initializers[name])
            half.name = name + _SUFFIX
            self.graph.initializer.append(half)
        unneeded = {name for name in self.initializers if name in self.floats} - need_float
        kept = [item for item in self.graph.initializer if item.name not in unneeded]
        copies = [type(item).FromString(item.SerializeToString()) for item in kept]
        del self.graph.initializer[:]
        self.graph.initializer.extend(copies)

    def _half_tensor(self, tensor: Any) -> Any:
        """The same values in float16; finite ones beyond its range become the mask's."""
        import numpy as np
        from onnx import numpy_helper

        values = numpy_helper.to_array(tensor)
        beyond = np.isfinite(values) & (np.abs(values) > LARGEST_HALF)
        self.clamped += int(beyond.sum())
        safe = np.where(beyond, np.sign(values) * LARGEST_MASK, values)
        return numpy_helper.from_array(safe.astype(np.float16), tensor.name)

    def _retype(self, node: Any) -> None:
        """Let attributes that name or hold float32 name or hold float16."""
        import onnx

        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
            elif attribute.HasField("t") and attribute.t.data_type == onnx.TensorProto.FLOAT:
                attribute.t.CopyFrom(self._half_tensor(attribute.t))
        if node.op_type == "ConstantOfShape" and not node.attribute:  # its default is a float32 zero
            zero = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT16, [1], [0.0])
            node.attribute.append(onnx.helper.make_attribute("value", zero))

    def _rename(self, node: Any, is_half: bool, made_half: set[str]) -> None:
        for index, name in enumerate(node.input):
            only_half = node.op_type in _SHAPE_OPERATORS and name in made_half
            if name in self.floats and (is_half or only_half):
                node.input[index] = name + _SUFFIX
        if is_half:
            for index, name in enumerate(node.output):
                if name in self.floats:
                    node.output[index] = name + _SUFFIX

    def _cast(self, source: str, target: str, *, half: bool) -> Any:
        import onnx

        self.casts += 1
        kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        # Not the tensor's name: parsers refer to nodes and tensors by name alike.
        return onnx.helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=kind)


def tensor_size(tensor: Any) -> int:
    """How many elements a TensorProto holds."""
    count = 1
    for size in tensor.dims:
        count *= int(size)
    return count


def _captured(node: Any) -> Iterable[str]:
    """Names that the graphs inside a node read, some of which may be tensors of the graph around it."""
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for child in all_nodes(inner):
                yield from child.input
            yield from (item.name for item in inner.output)


def _constants_to_initializers(graph: Any) -> None:
    """Turn Constant nodes into initializers, so that there is one place to look for a constant."""
    import numpy as np
    from onnx import helper, numpy_helper

    kept = []
    for node in graph.node:
        attribute = node.attribute[0] if node.op_type == "Constant" and len(node.attribute) == 1 else None
        if attribute is None or attribute.name not in (
            "value",
            "value_float",
            "value_floats",
            "value_int",
            "value_ints",
        ):
            kept.append(node)
            continue
        value = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            tensor = type(attribute.t).FromString(attribute.t.SerializeToString())
        else:
            kind = np.float32 if "float" in attribute.name else np.int64
            tensor = numpy_helper.from_array(np.asarray(value, dtype=kind))
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)
