"""Bad graphs on purpose: each rejected node is named, with the parser's reason and what to change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pocketformer.export.tensorrt.compatibility import check_compatibility, require_compatible
from pocketformer.export.tensorrt.config import PRECISIONS
from pocketformer.export.tensorrt.library import Library
from pocketformer.runtime.errors import ExportError, ModelError

_SCALE, _UNSIGNED, _SIGNED = np.float32(0.05), np.uint8(128), np.int8(0)


@dataclass(frozen=True)
class Planted:
    """A graph from ``x`` to ``y`` whose node ``bad`` no engine takes, and a word of what to do about it."""

    name: str
    nodes: tuple[Any, ...]
    operator: str
    fix: str
    domain: str = "ai.onnx"
    opset: int = 17
    bad: str = "bad"


def node(operator: str, inputs: str, outputs: str, name: str = "bad", **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), outputs.split(), name=name, **attributes)


def constant(name: str, value: Any) -> Any:
    tensor = numpy_helper.from_array(np.asarray(value), name)
    return helper.make_node("Constant", [], [name], name=f"constant_{name}", value=tensor)


SCALES = (constant("s", _SCALE), constant("u", _UNSIGNED), constant("z", _SIGNED))
PLANTED = (
    Planted(
        "fused attention",
        (
            constant("w", np.zeros((8, 24), np.float32)),
            constant("b", np.zeros(24, np.float32)),
            node("Attention", "x w b", "y", domain="com.microsoft", num_heads=2),
        ),
        "Attention",
        "before fusing",
        domain="com.microsoft",
    ),
    Planted(
        "fused normalization",
        (
            constant("g", np.ones(8, np.float32)),
            node("SkipLayerNormalization", "x x g", "y", domain="com.microsoft"),
        ),
        "SkipLayerNormalization",
        "before fusing",
        domain="com.microsoft",
    ),
    Planted(
        "four-bit weights",
        (
            constant("w", np.zeros((8, 1, 8), np.uint8)),
            constant("ws", np.ones(8, np.float32)),
            node("MatMulNBits", "x w ws", "y", domain="com.microsoft", K=8, N=8, bits=4, block_size=16),
        ),
        "MatMulNBits",
        "Packed weights",
        domain="com.microsoft",
    ),
    Planted(
        "dynamic quantization",
        (
            node("DynamicQuantizeLinear", "x", "q qs qz"),
            node("DequantizeLinear", "q qs qz", "y", name="after"),
        ),
        "DynamicQuantizeLinear",
        "tensorrt-symmetric",
    ),
    Planted(
        "integer product",
        (
            *SCALES,
            constant("w", np.zeros((8, 8), np.int8)),
            node("QuantizeLinear", "x s z", "q", name="quantize"),
            node("MatMulInteger", "q w", "p"),
            node("Cast", "p", "y", name="float", to=TensorProto.FLOAT),
        ),
        "MatMulInteger",
        "tensorrt-symmetric",
    ),
    Planted(
        "quantized operator",
        (
            *SCALES,
            constant("w", np.zeros((8, 8), np.int8)),
            node("QuantizeLinear", "x s z", "q", name="quantize"),
            node("QLinearMatMul", "q s z w s z s z", "p"),
            node("DequantizeLinear", "p s z", "y", name="dequantize"),
        ),
        "QLinearMatMul",
        "writes Q/DQ",
    ),
    Planted(
        "unsigned activations",
        (
            *SCALES,
            node("QuantizeLinear", "x s u", "q"),
            node("DequantizeLinear", "q s u", "y", name="dequantize"),
        ),
        "QuantizeLinear",
        "to int8",
    ),
    Planted(
        "asymmetric activations",
        (
            constant("s", _SCALE),
            constant("a", np.int8(3)),
            node("QuantizeLinear", "x s a", "q"),
            node("DequantizeLinear", "q s a", "y", name="dequantize"),
        ),
        "QuantizeLinear",
        "symmetrically",
    ),
    Planted(
        "quantized bias",
        (
            constant("s", _SCALE),
            constant("i", np.zeros(8, np.int32)),
            constant("iz", np.int32(0)),
            node("DequantizeLinear", "i s iz", "b"),
            node("Add", "x b", "y", name="add"),
        ),
        "DequantizeLinear",
        "biases",
    ),
    Planted(
        "an operator of one's own",
        (node("FastPath", "x", "y", domain="example.company"),),
        "FastPath",
        "another domain",
        domain="example.company",
    ),
    Planted(
        "an operator that is none", (node("Frobnicate", "x", "y"),), "Frobnicate", "change the model's code"
    ),
    Planted(
        "a sequence",
        (
            node("SplitToSequence", "x", "parts", axis=1),
            node("ConcatFromSequence", "parts", "y", name="join", axis=1),
        ),
        "SplitToSequence",
        "Sequences of tensors",
    ),
)


def write(planted: Planted, path: Path) -> Path:
    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8])

    domains = {item.domain for item in planted.nodes} - {""}
    model = helper.make_model(
        helper.make_graph(list(planted.nodes), planted.name, [value("x")], [value("y")]),
        opset_imports=[
            helper.make_opsetid("", planted.opset),
            *(helper.make_opsetid(domain, 1) for domain in sorted(domains)),
        ],
        ir_version=8,
    )
    onnx.save_model(model, str(path))
    return path


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_rejected_node_is_named_with_reason_and_fix(
    planted: Planted, library: Library, tmp_path: Path
) -> None:
    rejected = {r.node: r for r in check_compatibility(write(planted, tmp_path / "bad.onnx"), library)}
    assert planted.bad in rejected, rejected
    found = rejected[planted.bad]
    assert (found.operator, found.domain) == (planted.operator, planted.domain)
    assert found.reason
    assert planted.fix in found.fix
    assert found.to_dict()["node"] == planted.bad


def test_an_opset_that_is_too_new_is_told(library: Library, tmp_path: Path) -> None:
    planted = Planted("future", (node("Relu", "x", "y"),), "Relu", "opset", opset=99)
    (found,) = check_compatibility(write(planted, tmp_path / "bad.onnx"), library)
    assert "opset 99" in found.fix
    assert "opset 99 is newer" in found.reason
    with pytest.raises(ExportError, match="opset 99 is newer"):
        require_compatible(tmp_path / "bad.onnx", library)


def test_all_of_a_graph_is_looked_through(library: Library, tmp_path: Path) -> None:
    nodes = (
        node("Frobnicate", "x", "a", name="first"),
        node("Relu", "a", "b", name="fine"),
        node("FastPath", "b", "y", name="second", domain="example.company"),
    )
    path = write(Planted("two", nodes, "", ""), tmp_path / "bad.onnx")
    assert [r.node for r in check_compatibility(path, library)] == ["first", "second"]
    with pytest.raises(ExportError) as caught:
        require_compatible(path, library)
    assert "rejects 2 nodes" in caught.value.message
    assert all(word in caught.value.message for word in ("first", "second", "example.company.FastPath"))
    assert "another domain" in str(caught.value.hint)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_typed_graphs_are_taken(precision: str, typed_graphs: dict[str, Path], library: Library) -> None:
    assert check_compatibility(typed_graphs[precision], library) == ()


def test_a_file_that_is_no_graph_is_refused(library: Library, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no ONNX file"):
        check_compatibility(tmp_path / "none.onnx", library)
