"""What training sees is what onnxruntime computes, code by code."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from pocketformer.compress.quantize.fake_quant_core import (
    rounded_activations,
    rounded_blocks,
    rounded_rows,
    straight_through,
)


@pytest.fixture(scope="module")
def rounding_node() -> Any:
    """DynamicQuantizeLinear with a DequantizeLinear behind it, run by onnxruntime."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.4, 5.0])
def test_activations_are_rounded_as_the_node_rounds_them(shift: float, rounding_node: Any) -> None:
    rng = np.random.default_rng(0)
    for shape in ((2, 7, 33), (1, 5)):
        x = (rng.standard_normal(shape) * 3 + shift).astype(np.float32)
        np.testing.assert_allclose(
            rounded_activations(torch.from_numpy(x)), rounding_node(x), rtol=1e-6, atol=0
        )
    zeros = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(rounded_activations(torch.from_numpy(zeros)), rounding_node(zeros))


def test_what_is_outside_the_watched_range_is_clipped() -> None:
    x = torch.tensor([[-1.0, 2.0], [-9.0, 9.0]])
    rounded = rounded_activations(x, x[:1])
    assert rounded[1, 0] == pytest.approx(-1, abs=0.01)
    assert rounded[1, 1] == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("reduce_range", [False, True])
def test_weights_get_the_codes_of_the_quantizer(reduce_range: bool) -> None:
    from onnxruntime.quantization.quant_utils import quantize_data

    weight = np.random.default_rng(1).standard_normal((5, 40)).astype(np.float32)
    weight[3] = 0
    mine = rounded_rows(torch.from_numpy(weight), 64 if reduce_range else 127).numpy()
    for row, expected in zip(weight, mine, strict=True):
        zero, scale, codes = quantize_data(row, TensorProto.INT8, True, reduce_range=reduce_range)
        assert int(zero) == 0
        np.testing.assert_allclose(np.asarray(codes, np.float32) * np.float32(scale), expected, rtol=1e-6)


@pytest.mark.parametrize(("inputs", "block"), [(64, 32), (48, 32), (32, 16)])
def test_blocks_are_those_of_MatMulNBits(inputs: int, block: int) -> None:  # noqa: N802
    """Through the operator itself: the identity times the packed weights gives the weights that they stand for."""
    from onnxruntime.capi._pybind_state import quantize_matmul_4bits

    outputs, count = 6, -(-inputs // block)
    weight = np.random.default_rng(2).standard_normal((outputs, inputs)).astype(np.float32)
    packed = np.zeros((outputs, count, block // 2), np.uint8)
    scales = np.zeros(outputs * count, np.float32)
    zeros = np.zeros((outputs * count + 1) // 2, np.uint8)
    quantize_matmul_4bits(packed, np.ascontiguousarray(weight.T), scales, zeros, block, outputs, inputs, True)
    node = helper.make_node(
        "MatMulNBits", ["x", "packed", "scales"], ["y"], domain="com.microsoft", K=inputs, N=outputs, bits=4,
        block_size=block,
    )  # fmt: skip
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy"]
    constants = [onnx.numpy_helper.from_array(a, n) for a, n in ((packed, "packed"), (scales, "scales"))]
    graph = helper.make_graph([node], "g", value[:1], value[1:], constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    stored = session.run(None, {"x": np.eye(inputs, dtype=np.float32)})[0].T
    np.testing.assert_allclose(rounded_blocks(torch.from_numpy(weight), block), stored, rtol=1e-5, atol=1e-6)


def test_gradients_pass_straight_through() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    y = straight_through(x, rounded_rows(x, 127))
    (y * torch.arange(4.0)).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.arange(4.0).expand(3, 4))
    torch.testing.assert_close(y, rounded_rows(x, 127))
