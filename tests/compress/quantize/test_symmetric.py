"""What TensorRT takes: signed, symmetric, zero points of zero, biases in float."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pocketformer.compress.quantize.candidates import TENSORRT_CANDIDATE, USUAL_CANDIDATES, candidate_by_name
from pocketformer.compress.quantize.config import DequantizedTablesConfig
from pocketformer.compress.quantize.dequantized_tables import dequantize_tables, row_codes
from pocketformer.compress.quantize.portfolio import quantize_candidate
from pocketformer.runtime.errors import ModelError


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


def test_tables_are_int8_rows_behind_a_dequantizer(
    graphs: dict[str, Path], feeds: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    plain = onnx.load(str(graphs["plain"])).graph
    lookups = {node.input[0] for node in plain.node if node.op_type == "Gather"}
    tables = {item.name: numpy_helper.to_array(item) for item in plain.initializer if item.name in lookups}
    tables = {name: table for name, table in tables.items() if table.nbytes >= 8192}
    assert tables, "the tiny model's word table is large enough"
    result = quantize_candidate(
        TENSORRT_CANDIDATE, graphs=graphs, output=tmp_path / "q.onnx", calibration=feeds
    )
    graph = onnx.load(str(result.output)).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    assert result.metrics["embeddings_tables"] == len(tables)
    for name, table in tables.items():
        (node,) = (node for node in graph.node if name in node.output)
        codes, scales = constants[node.input[0]], constants[node.input[1]]
        assert node.op_type == "DequantizeLinear"
        assert [attribute.i for attribute in node.attribute if attribute.name == "axis"] == [0]
        assert codes.dtype == np.int8
        assert (scales > 0).all()
        back = codes.astype(np.float32) * scales[:, None]
        # Half a step of 127 in each direction.
        assert (np.abs(back - table).max(axis=1) <= np.abs(table).max(axis=1) / 254 * 1.001).all()


def test_rows_of_zeros_have_a_positive_scale() -> None:
    codes, scales = row_codes(np.array([[0, 0], [-2, 1]], np.float32), "table")
    assert scales.tolist() == [1.0, np.float32(2 / 127)]
    assert codes.tolist() == [[0, 0], [-127, 64]]
    with pytest.raises(ModelError, match="table holds values that are not finite"):
        row_codes(np.array([[np.nan]], np.float32), "table")


def test_a_table_that_is_multiplied_too_stays(tmp_path: Path) -> None:
    table = np.ones((300, 8), np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Transpose", ["table"], ["turned"]),
        helper.make_node("MatMul", ["rows", "turned"], ["logits"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "tied",
            [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])],
            [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 300])],
            [numpy_helper.from_array(table, "table")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    onnx.save(model, tmp_path / "tied.onnx")
    result = dequantize_tables(tmp_path / "tied.onnx", tmp_path / "out.onnx", DequantizedTablesConfig())
    assert result.metrics["tables"] == 0
    assert result.notes == ["table stays float32: it is not only looked up"]
    assert [node.op_type for node in onnx.load(result.output).graph.node] == ["Gather", "Transpose", "MatMul"]
