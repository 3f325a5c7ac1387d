"""Before an engine is built: which nodes TensorRT's parser rejects, why, and what to change.

The parser itself is asked (``supports_model_v2``), so the answer is that of the installed version. Its reasons are
written for those who know its source; the table of rules adds what a user of this package does about them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketformer.export.graph_file import LARGEST_OPSET, all_nodes, load_graph
from pocketformer.runtime.errors import ExportError
from pocketformer.runtime.tensorrt.library import Library, load_library
from pocketformer.runtime.tensorrt.parser import Complaint, ask_parser

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_DYNAMIC = ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")
_OPERATOR_FORM = ("QLinearMatMul", "QLinearConv", "QGemm", "QLinearAdd", "QLinearMul")
_PACKED = ("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized")
_SHOWN = 5
_CANDIDATE = "tensorrt-symmetric"
_INTEGERS = "the builder takes int8 constants before a DequantizeLinear only"
_INTEGERS_FIX = (
    f"Quantize tables as the candidate {_CANDIDATE} does: DequantizeLinear first, then the look-up."
)


@dataclass(frozen=True)
class RejectedNode:
    """One node that the parser does not take.

    ``node`` is its name, or its first output where it has none; ``domain`` is "ai.onnx" for standard operators;
    ``reason`` is the parser's own, ``fix`` what to change. A graph that is rejected as a whole has an empty
    ``node`` and ``operator``.
    """

    node: str
    operator: str
    domain: str
    reason: str
    fix: str

    def to_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return asdict(self)


def check_compatibility(graph: Path, library: Library | None = None) -> tuple[RejectedNode, ...]:
    """The nodes of the ONNX file ``graph`` that the installed TensorRT rejects; empty when it takes all.

    Raises ``ModelError`` when the file is no ONNX, ``MissingDependencyError`` without TensorRT.
    """
    model = load_graph(graph)
    library = library or load_library()
    facts = _Facts(model)
    # The parser reads newer graphs by the rules that it knows and says nothing.
    complaints = ask_parser(model.SerializeToString(), library) if facts.opset <= LARGEST_OPSET else ()
    return _rejected(facts, complaints)


def explain(graph: Path, complaints: Sequence[Complaint] = ()) -> tuple[RejectedNode, ...]:
    """What a parser complained of in the ONNX file ``graph``, with what to change, and what no builder takes.

    No TensorRT is needed: the parser may be that of another machine, and without complaints the graph alone is looked
    at.
    """
    return _rejected(_Facts(load_graph(graph)), complaints)


def require_compatible(graph: Path, library: Library | None = None) -> None:
    """Raise ``ExportError`` that names the first rejected nodes, with reasons and fixes, when there are any."""
    library = library or load_library()
    refuse(graph, check_compatibility(graph, library), f"{library.name} {library.version}")


def refuse(graph: Path, rejected: Sequence[RejectedNode], parser: str) -> None:
    """Raise the ``ExportError`` of nodes that ``parser``, a library in words, rejects; nothing without any."""
    if not rejected:
        return
    lines = [
        f"{r.node} ({r.domain}.{r.operator}): {r.reason}" if r.node else r.reason for r in rejected[:_SHOWN]
    ]
    more = f"\n... and {len(rejected) - _SHOWN} more" if len(rejected) > _SHOWN else ""
    raise ExportError(
        f"{parser} rejects {len(rejected)} nodes of {graph}:\n" + "\n".join(lines) + more,
        hint="\n".join(dict.fromkeys(r.fix for r in rejected)),
    )


def _rejected(facts: _Facts, complaints: Sequence[Complaint]) -> tuple[RejectedNode, ...]:
    if facts.opset > LARGEST_OPSET:
        reason = f"opset {facts.opset} is newer than the {LARGEST_OPSET} that TensorRT 10 and 11 both read"
        return (RejectedNode("", "", "ai.onnx", reason, _fix_of_graph(facts, reason)),)
    found: dict[str, RejectedNode] = {}
    for complaint in complaints:
        node = facts.find(complaint.index, complaint.node, complaint.operator)
        if node is None:
            label, fix = complaint.node, _fix_of_graph(facts, complaint.reason)
            rejected = RejectedNode(label, complaint.operator, "", complaint.reason, fix)
        else:
            label = node.name or node.output[0]
            domain = node.domain or "ai.onnx"
            rejected = RejectedNode(label, node.op_type, domain, complaint.reason, _fix_of(node, facts))
        found.setdefault(label, rejected)
    for node in facts.readers_of_integer_constants():
        label = node.name or node.output[0]
        rejected = RejectedNode(label, node.op_type, node.domain or "ai.onnx", _INTEGERS, _INTEGERS_FIX)
        found.setdefault(label, rejected)
    return tuple(found.values())


class _Facts:
    """What the rules ask of a graph."""

    def __init__(self, model: Any) -> None:
        self.nodes = list(model.graph.node)
        self.by_name = {node.name: node for node in all_nodes(model.graph) if node.name}
        self.initializers = {item.name: item for item in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
                self.initializers.update((node.output[0], value) for value in values)
        self.opset = max((i.version for i in model.opset_import if i.domain in ("", "ai.onnx")), default=0)

    def find(self, index: int, name: str, operator: str) -> Any | None:
        """The node that a complaint is about; parsers count nodes and also name them."""
        if name in self.by_name:
            return self.by_name[name]
        if 0 <= index < len(self.nodes) and self.nodes[index].op_type == operator:
            return self.nodes[index]
        return None

    def readers_of_integer_constants(self) -> list[Any]:
        """Nodes that read int8 constants, which the parser takes and the builder refuses."""
        from onnx import TensorProto

        eights = {
            n
            for n, tensor in self.initializers.items()
            if tensor.data_type in (TensorProto.INT8, TensorProto.UINT8)
        }
        return [node for node in self.nodes if node.op_type not in _QDQ and eights & set(node.input)]

    def zero_point(self, node: Any) -> Any | None:
        """The constant third input of a Q/DQ node."""
        return self.initializers.get(node.input[2]) if len(node.input) > 2 else None


def _is_fused(node: Any, _: _Facts) -> bool:
    return bool(node.domain == "com.microsoft")


def _is_foreign(node: Any, _: _Facts) -> bool:
    return node.domain not in ("", "ai.onnx")


def _has_uint8(node: Any, facts: _Facts) -> bool:
    from onnx import TensorProto

    zero = facts.zero_point(node)
    # Without a zero point a standard QuantizeLinear gives uint8.
    implied = node.op_type == "QuantizeLinear" and len(node.input) < 3
    return node.op_type in _QDQ and (implied or (zero is not None and zero.data_type == TensorProto.UINT8))


def _has_int32(node: Any, facts: _Facts) -> bool:
    from onnx import TensorProto

    value = facts.initializers.get(node.input[0]) if node.input else None
    return bool(
        node.op_type == "DequantizeLinear" and value is not None and value.data_type == TensorProto.INT32
    )


def _is_asymmetric(node: Any, facts: _Facts) -> bool:
    from onnx import numpy_helper

    zero = facts.zero_point(node)
    return node.op_type in _QDQ and zero is not None and bool(numpy_helper.to_array(zero).any())


def _one_of(*operators: str) -> Callable[[Any, _Facts], bool]:
    return lambda node, _: node.op_type in operators


def _begins(*prefixes: str) -> Callable[[Any, _Facts], bool]:
    return lambda node, _: node.op_type.startswith(prefixes)


# The first rule that holds for a rejected node says what to do about it.
_RULES: tuple[tuple[Callable[[Any, _Facts], bool], str], ...] = (
    (_one_of(*_DYNAMIC), f"Dynamic int8 is for CPUs: quantize with the candidate {_CANDIDATE}, which is static."),
    (
        _one_of(*_OPERATOR_FORM),
        f"Quantized operators are onnxruntime's form: quantize with the candidate {_CANDIDATE}, which writes Q/DQ.",
    ),
    (_one_of(*_PACKED), f"Packed weights are onnxruntime's form: start from fp32, or from the candidate {_CANDIDATE}."),
    (
        _is_fused,
        "A fused operator of onnxruntime: build from the plain graph that `pocketformer export` writes, before fusing.",
    ),
    (_is_foreign, "An operator of another domain: remove it from the model, or build with a plugin of your own."),
    (_has_uint8, f"uint8 is not taken: quantize activations to int8, as the candidate {_CANDIDATE} does."),
    (
        _is_asymmetric,
        f"The zero point is not zero: quantize symmetrically, as the candidate {_CANDIDATE} does.",
    ),
    (_has_int32, f"A quantized bias: leave biases in float32, as the candidate {_CANDIDATE} does."),
    (_one_of(*_QDQ), f"Scales and zero points must be constants, of int8: the candidate {_CANDIDATE} writes such."),
    (_begins("Sequence", "Optional", "SplitToSequence", "ConcatFromSequence"), "Sequences of tensors are not taken: "
     "export a graph of plain tensors, for example with the dynamo exporter."),
    (_begins("String", "Tf", "LabelEncoder", "Regex"), "Text operators are not taken: tokenize outside of the graph."),
)  # fmt: skip
_UNKNOWN = (
    "No engine takes this operator: change the model's code, or try the other exporter or another opset."
)


def _fix_of(node: Any, facts: _Facts) -> str:
    for applies, fix in _RULES:
        if applies(node, facts):
            return fix
    return _UNKNOWN


def _fix_of_graph(facts: _Facts, reason: str) -> str:
    if facts.opset > LARGEST_OPSET or "opset" in reason.lower():
        return f"The graph has opset {facts.opset}: export with one from 17 to {LARGEST_OPSET}."
    return "Export the model again; if it stays, try the other exporter."
