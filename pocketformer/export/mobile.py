"""Which of onnxruntime's accelerators on phones could take how much of a graph: its usability check, in plain words.

The check (``onnxruntime.tools.mobile_helpers``) knows NNAPI and CoreML: it compares operator types, ranks and shapes
with what each takes, and counts the partitions that a graph falls into. XNNPACK it does not know; the rules here are
those of onnxruntime's documentation and sources (XNNPACK Execution Provider, ``core/providers/xnnpack``): constant
float32 factors of rank 2, Softmax over the last axis. Nothing is run, and nothing here says how fast anything is.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketformer.export.graph_file import load_graph
from pocketformer.runtime.errors import MissingDependencyError, ModelError

# onnxruntime's own rule of thumb: one partition with three quarters of the nodes, or at best two of them.
_LARGE, _HALF = 0.75, 0.5
_PRODUCTS = (
    "MatMul",
    "Gemm",
    "Attention",
    "MultiHeadAttention",
    "QAttention",
    "MatMulInteger",
    "MatMulNBits",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "QLinearMatMul",
)
_XNNPACK_RULE = (
    "it takes products alone whose weights are constant and float32, and Softmax over a known length; the rest of the "
    "graph stays where it is, without copies"
)
_XNNPACK = ("AveragePool", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "QLinearConv", "Softmax")


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a provider could take: how many nodes, in how many partitions, how many of the matrix products."""

    nodes: int
    partitions: int
    products: int


@dataclass(frozen=True, kw_only=True)
class Usability:
    """One provider: what it could take of the graph as it is, and were all shapes fixed.

    ``refused``: operators that it does not take, with how many nodes they are, as the graph would be with fixed shapes.
    ``conditions``: what it demands of operators that it has; types, ranks and constants of these were not checked.
    ``advice`` is "worth trying", "may be worth trying" or "not worth trying".
    """

    name: str
    where: str
    as_is: Coverage
    fixed: Coverage
    refused: Mapping[str, int]
    conditions: Mapping[str, str]
    advice: str
    rule: str = ""


@dataclass(frozen=True, kw_only=True)
class MobileReport:
    """A graph on phones: its ``nodes`` after onnxruntime's basic optimizations, its ``products``, and each provider."""

    nodes: int
    products: int
    dynamic_inputs: tuple[str, ...]
    fused: Mapping[str, int]
    providers: tuple[Usability, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """For people who never saw a partition."""
        products = f"{self.products} of them matrix products"
        yield f"On a phone: {self.nodes} nodes, {products}. The processor runs all of them."
        if self.dynamic_inputs:
            yield f"  Shapes are not fixed: {', '.join(self.dynamic_inputs)}."
        for found in self.providers:
            yield f"  {found.name} ({found.where}): {found.advice}."
            yield f"    As it is: {self._taken(found.as_is)}."
            if found.fixed != found.as_is:
                yield f"    With fixed shapes: {self._taken(found.fixed)}."
            if found.refused:
                listed = ", ".join(f"{name} {count}" for name, count in found.refused.items())
                yield f"    It does not take {listed}."
            if found.rule:
                yield f"    {found.rule[0].upper()}{found.rule[1:]}."
            if found.conditions:
                listed = "; ".join(f"{name}: {text}" for name, text in found.conditions.items())
                yield f"    It also demands, which was not checked: {listed}"
        yield from self._what_to_do()

    def _taken(self, coverage: Coverage) -> str:
        if not coverage.nodes:
            return "takes nothing"
        pieces = "one piece" if coverage.partitions == 1 else f"{coverage.partitions} pieces"
        products = f"{coverage.products} of {self.products} products"
        return f"takes {coverage.nodes} of {self.nodes} nodes in {pieces}, {products}"

    def _what_to_do(self) -> Iterator[str]:
        yield (
            "  Between pieces data goes back to the processor, which costs time: one large piece is good, many small "
            "ones are not. How fast it is only the phone can tell."
        )
        gains = any(found.advice != "not worth trying" for found in self.providers)
        if self.fused:
            listed = ", ".join(f"{name} {count}" for name, count in self.fused.items())
            yield (
                f"  What to do: {listed} are operators that only onnxruntime's processor code has. For an accelerator "
                "start from the plain graph: pocketformer export MODEL, and quantize --candidate static-plain for int8."
            )
        if self.dynamic_inputs and gains:
            yield (
                "  What to do: fix the shapes with python -m onnxruntime.tools.make_dynamic_shape_fixed, to the length "
                "of your texts, and measure on the phone."
            )
        if not gains:
            yield "  Else leave it to the processor (CPUExecutionProvider), which is what this graph was made for."


def mobile_usability(path: Path) -> MobileReport:
    """Check the ONNX file at ``path``; ``ModelError`` when it is none or its shapes cannot be inferred.

    ``MissingDependencyError`` where onnxruntime's tools lack a package.
    """
    load_graph(path)  # says in our words when the file is none
    try:
        from onnxruntime.tools.mobile_helpers import usability_checker as tool
        from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo, optimize_model
    except ImportError as error:
        raise MissingDependencyError(
            f"onnxruntime's usability check cannot be imported: {error}",
            hint='Install the workstation half: pip install "pocketformer[compress]".',
        ) from error
    before = logging.root.manager.disable
    logging.disable(
        logging.WARNING
    )  # shapes that symbolic inference cannot follow are usual and counted below
    try:
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / path.name
            optimize_model(path, optimized)
            shaped = ModelProtoWithShapeInfo(optimized)  # removes a file of its own when it goes
            model = shaped.model_with_shape_info
            dynamic, _ = tool.check_shapes(model.graph)
            report = _report(tool, model, tuple(item.name for item in dynamic))
            del shaped
    except Exception as error:  # shape inference raises whatever it meets
        raise ModelError(
            f"the shapes of {path} cannot be followed: {error}",
            hint="Check the plain graph, before quantizing it.",
        ) from error
    finally:
        logging.disable(before)
    return report


def _report(tool: Any, model: Any, dynamic: tuple[str, ...]) -> MobileReport:
    checks: tuple[tuple[str, str, Callable[[bool], Any]], ...] = (
        (
            "NNAPI",
            "Android, deprecated since Android 15",
            lambda fixed: tool.check_nnapi_partitions(model, fixed),
        ),
        (
            "CoreML, NeuralNetwork",
            "iOS and macOS",
            lambda fixed: _coreml(tool, model, fixed, "neuralnetwork"),
        ),
        (
            "CoreML, MLProgram",
            "iOS 15 and macOS 12 or newer",
            lambda fixed: _coreml(tool, model, fixed, "mlprogram"),
        ),
    )
    nodes = list(model.graph.node)
    kinds = Counter(node.op_type for node in nodes)
    providers = []
    for name, where, check in checks:
        as_is, fixed = check(True), check(False)  # whether shapes must be fixed already
        refused = {op: kinds[op] for op in (item.split(":")[-1] for item in sorted(fixed.unsupported_ops))}
        providers.append(_judged(name, where, as_is, fixed, refused, _caveats(fixed)))
    taken = tool.check_partitioning(model.graph, _XnnpackRules(model.graph), False)
    left = kinds - Counter(node.op_type for group in taken.supported_groups for node in group)
    refused = {op: count for op, count in sorted(left.items()) if op in _PRODUCTS or op in _XNNPACK}
    where = "Android and iOS, on the processor"
    providers.append(_judged("XNNPACK", where, taken, taken, refused, {}, rule=_XNNPACK_RULE))
    fused = Counter(node.op_type for node in nodes if node.domain == "com.microsoft")
    return MobileReport(
        nodes=taken.num_nodes,
        products=sum(_is_product(node) for node in nodes),
        dynamic_inputs=dynamic,
        fused=dict(fused.most_common()),
        providers=tuple(providers),
    )


def _coreml(tool: Any, model: Any, fixed: bool, kind: str) -> Any:
    return tool.check_coreml_partitions(model, fixed, f"coreml_supported_{kind}_ops.md")


def _judged(
    name: str,
    where: str,
    as_is: Any,
    fixed: Any,
    refused: Mapping[str, int],
    conditions: Mapping[str, str],
    rule: str = "",
) -> Usability:
    """``rule`` is of a provider that computes on the processor: nothing crosses to another device between pieces."""
    now, then = _coverage(as_is), _coverage(fixed)
    share = then.nodes / max(1, as_is.num_nodes)
    if rule:
        advice = "may be worth trying" if then.products else "not worth trying"
    elif then.partitions == 1 and share > _LARGE:
        advice = "worth trying"
    elif (then.partitions == 1 and share > _HALF) or (then.partitions == 2 and share > _LARGE):
        advice = "may be worth trying"
    else:
        advice = "not worth trying"
    return Usability(
        name=name,
        where=where,
        as_is=now,
        fixed=then,
        refused=refused,
        conditions=conditions,
        advice=advice,
        rule=rule,
    )


def _coverage(info: Any) -> Coverage:
    taken = [node for group in info.supported_groups for node in group]
    return Coverage(
        nodes=info.num_supported_nodes,
        partitions=info.num_partitions,
        products=sum(_is_product(node) for node in taken),
    )


def _caveats(info: Any) -> dict[str, str]:
    pairs = (line.split(":", 2) for line in info.supported_ops_checker.get_caveats())
    return {pair[1]: pair[2].strip() for pair in pairs}


def _is_product(node: Any) -> bool:
    return node.op_type in _PRODUCTS


class _XnnpackRules:
    """Stands for the check's own table of a provider."""

    def __init__(self, graph: Any) -> None:
        from onnx import TensorProto

        self._factors = {
            item.name
            for item in graph.initializer
            if len(item.dims) <= 2 and item.data_type == TensorProto.FLOAT
        }
        # Whether each axis of a tensor has a known size.
        self._shapes = {
            item.name: tuple(axis.HasField("dim_value") for axis in item.type.tensor_type.shape.dim)
            for item in (*graph.value_info, *graph.input, *graph.output)
        }

    def is_op_supported(self, node: Any) -> bool:
        """Whether XNNPACK would take this node."""
        if node.domain not in ("", "ai.onnx") or node.op_type not in _XNNPACK:
            return False
        if node.op_type in ("MatMul", "Gemm"):
            taken = node.input[1] in self._factors
        elif node.op_type == "Softmax":
            axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
            known = self._shapes.get(node.input[0], ())
            taken = bool(known) and axis in (-1, len(known) - 1) and known[-1]
        else:
            taken = True
        return taken
