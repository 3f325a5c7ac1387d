"""What TensorRT takes: signed, symmetric, zero points of zero, biases in float."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from pocketformer.compress.quantize.portfolio import (
    TENSORRT_CANDIDATE,
    USUAL_CANDIDATES,
    candidate_by_name,
    quantize_candidate,
)


def test_every_pair_is_symmetric_int8_and_no_bias_is_quantized(
    graphs: dict[str, Path], feeds: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    path = quantize_candidate(
        TENSORRT_CANDIDATE, graphs=graphs, output=tmp_path / "q.onnx", calibration=feeds
    ).output
    graph = onnx.load(str(path)).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    dequantized = {node.output[0] for node in pairs}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    whole = [node for node in products if set(node.input[:2]) <= dequantized]
    between = [node for node in products if not set(node.input[:2]) & dequantized]
    # Six weights a layer and two of the head; the products of attention and what products give stay in float.
    assert (len(whole), len(between)) == (3 * 6 + 2, 3 * 2)
    assert len(whole) + len(between) == len(products)
    made = {node.output[0] for node in products}
    assert not any(node.input[0] in made for node in pairs)
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        assert constants[node.input[1]].dtype == np.float32
    weights = [
        constants[n.input[0]] for n in pairs if n.op_type == "DequantizeLinear" and n.input[0] in constants
    ]
    assert {weight.dtype for weight in weights} == {np.dtype(np.int8)}
    assert {weight.ndim for weight in weights} == {2}
    scales = [constants[n.input[1]] for n in pairs if n.input[0] in constants]
    assert all(scale.ndim == 1 and scale.size > 1 for scale in scales), "weights have a scale for each column"


def test_a_cpu_run_does_not_try_it_unasked() -> None:
    assert TENSORRT_CANDIDATE not in USUAL_CANDIDATES
    assert candidate_by_name(TENSORRT_CANDIDATE).needs_calibration
