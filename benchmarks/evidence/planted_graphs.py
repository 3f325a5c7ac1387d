"""Bad graphs on purpose: in each, one node is what no engine takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
        "a table of onnxruntime's int8",
        (
            constant("t", np.zeros((10, 8), np.int8)),
            constant("ids", np.zeros((1, 4), np.int64)),
            node("Gather", "t ids", "rows"),
            node("Cast", "rows", "floats", name="float", to=TensorProto.FLOAT),
            node("Add", "x floats", "y", name="add"),
        ),
        "Gather",
        "tensorrt-symmetric",
    ),
    Planted(
        "a text operator",
        (
            node("Cast", "x", "i", name="integers", to=TensorProto.INT64),
            node(
                "TfIdfVectorizer",
                "i",
                "y",
                mode="TF",
                min_gram_length=1,
                max_gram_length=1,
                max_skip_count=0,
                ngram_counts=[0],
                ngram_indexes=[0],
                pool_int64s=[1],
            ),
        ),
        "TfIdfVectorizer",
        "tokenize outside",
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


def write_planted(planted: Planted, path: Path) -> Path:
    """Write it as an ONNX file."""

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
