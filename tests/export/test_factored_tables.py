from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pocketformer.export.factored_tables import factor_tables, factors
from pocketformer.export.graph_file import load_graph
from pocketformer.runtime.engine import OnnxRuntimeEngine

ROWS, WIDTH = 2000, 48


def low_rank(rank: int, seed: int = 0, rows: int = ROWS) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, WIDTH))
    return table.astype(np.float32)


def graph_of(
    table: np.ndarray[tuple[int, int], np.dtype[np.float32]], path: Path, *, shared: bool = False
) -> Path:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"], name="look-up"),
        helper.make_node("ReduceMean", ["embedded", "axes"], ["logits"], keepdims=0),
    ]
    if shared:
        nodes.insert(1, helper.make_node("Transpose", ["table"], ["tied"], perm=[1, 0]))
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, WIDTH])]
    if shared:
        outputs.append(helper.make_tensor_value_info("tied", TensorProto.FLOAT, [WIDTH, ROWS]))
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [None, None])],
        outputs,
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@given(st.integers(1, WIDTH // 2), st.integers(0, 50))
def test_factors_give_the_table_back_and_are_as_narrow_as_can_be(rank: int, seed: int) -> None:
    table = low_rank(rank, seed, rows=200)
    found = factors(table)
    assert found is not None
    factor, basis = found
    assert factor.shape == (200, rank)
    assert basis.shape == (rank, WIDTH)
    np.testing.assert_allclose(factor @ basis, table, atol=1e-4 * np.abs(table).max())
    np.testing.assert_allclose(basis @ basis.T, np.eye(rank), atol=1e-5)


def test_columns_of_the_factor_vary_alike() -> None:
    """Else few bits with one scale for a row would be spent on the largest direction."""
    rng = np.random.default_rng(0)
    strong = np.geomspace(100, 1, 16)
    table = (rng.normal(size=(ROWS, 16)) * strong) @ np.linalg.qr(rng.normal(size=(WIDTH, 16)))[0].T
    found = factors(table.astype(np.float32))
    assert found is not None
    spread = found[0].std(axis=0)
    assert spread.max() / spread.min() < 3 < strong.max() / strong.min()


@pytest.mark.parametrize("table", [low_rank(WIDTH), low_rank(40)], ids=["whole", "too little to gain"])
def test_a_table_of_high_rank_stays(
    table: np.ndarray[tuple[int, int], np.dtype[np.float32]], tmp_path: Path
) -> None:
    assert factors(table) is None
    output = tmp_path / "out.onnx"
    assert factor_tables(graph_of(table, tmp_path / "in.onnx"), output) is None
    assert not output.exists()


def test_the_graph_holds_two_factors_and_answers_the_same(tmp_path: Path) -> None:
    source, output = graph_of(low_rank(12), tmp_path / "in.onnx"), tmp_path / "out.onnx"
    result = factor_tables(source, output)
    assert result is not None
    assert result.metrics["rank"] == 12
    assert result.metrics["tables"] == 1
    assert output.stat().st_size < 0.3 * source.stat().st_size
    assert [node.op_type for node in load_graph(output).graph.node] == ["Gather", "MatMul", "ReduceMean"]
    feeds = {"input_ids": np.arange(24).reshape(2, 12)}
    before, after = (OnnxRuntimeEngine(path).run(feeds) for path in (source, output))
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_a_table_that_a_product_reads_too_stays(tmp_path: Path) -> None:
    assert (
        factor_tables(graph_of(low_rank(12), tmp_path / "in.onnx", shared=True), tmp_path / "out.onnx")
        is None
    )
