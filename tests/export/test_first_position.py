from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pocketformer.export.first_position import compute_first_position_only, keep_first_position
from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.export.graph_file import load_graph, random_feeds
from pocketformer.export.onnx_export import export_onnx
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import ParityError


def sliced_tensors(path: Path) -> list[tuple[str, int]]:
    """What is cut to its first position, and along which axis."""
    graph = load_graph(path).graph
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    return [
        (node.input[0], int(onnx.numpy_helper.to_array(constants[node.input[3]])[0]))
        for node in graph.node
        if node.op_type == "Slice" and "first_position" in node.name
    ]


def lengths_of_products(path: Path, layer: str, length: int) -> dict[str, int]:
    """How many positions of a text of ``length`` each product of ``layer`` computes."""
    import onnxruntime as ort

    model = load_graph(path)
    feeds = dict(random_feeds(model, 2, length))
    products = [n for n in model.graph.node if n.op_type == "MatMul" and layer in n.name]
    model.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in products)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run([node.output[0] for node in products], feeds)
    return {node.name.split("/")[-2]: value.shape[-2] for node, value in zip(products, values, strict=True)}


def test_only_keys_and_values_of_the_last_layer_see_every_position(
    pruned_graph: Path, tmp_path: Path
) -> None:
    result = compute_first_position_only(pruned_graph, tmp_path / "n.onnx")
    assert result.metrics["nodes_on_first_position"] > 20
    assert result.metrics["max_abs_difference"] < 1e-5
    whole = lengths_of_products(pruned_graph, "layer.2", 9)
    narrow = lengths_of_products(result.output, "layer.2", 9)
    assert set(whole.values()) == {9}
    assert {name for name, length in narrow.items() if length == 9} == {"key", "value"}
    assert set(lengths_of_products(result.output, "layer.1", 9).values()) == {9}


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 2), (4, 13), (3, 32)])
def test_a_mask_with_holes_still_gives_the_same_logits(
    pruned_graph: Path, tmp_path: Path, batch: int, length: int
) -> None:
    narrow = compute_first_position_only(pruned_graph, tmp_path / "n.onnx").output
    fused = fuse_for_onnxruntime(pruned_graph, tmp_path / "f.onnx", heads=[3, 4, 1], hidden_size=32).output
    both = compute_first_position_only(fused, tmp_path / "fn.onnx").output
    feeds = dict(random_feeds(load_graph(pruned_graph), batch, length))
    rng = np.random.default_rng(0)
    feeds["attention_mask"] = rng.integers(0, 2, size=(batch, length))
    feeds["attention_mask"][:, 0] = 1
    expected = OnnxRuntimeEngine(pruned_graph).run(feeds)
    for path in (narrow, both):
        np.testing.assert_allclose(OnnxRuntimeEngine(path).run(feeds), expected, atol=1e-5)


def test_the_last_fused_attention_takes_one_query(pruned_graph: Path, tmp_path: Path) -> None:
    fused = fuse_for_onnxruntime(
        pruned_graph, tmp_path / "f.onnx", heads=[3, 4, 1], hidden_size=32, fuse_embeddings=False
    ).output
    narrow = compute_first_position_only(fused, tmp_path / "n.onnx").output
    nodes = [node.op_type for node in load_graph(narrow).graph.node]
    assert (nodes.count("Attention"), nodes.count("MultiHeadAttention")) == (2, 1)
    assert narrow.stat().st_size < fused.stat().st_size * 1.05  # packed weights do not stay behind
    # The queries and the residual share one slice.
    assert [axis for _, axis in sliced_tensors(narrow)] == [1]


def test_the_dynamo_exporter_gains_too(pruned_model: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    graph = export_onnx(pruned_model, tiny_model_dir, tmp_path / "d.onnx", exporter="dynamo").output
    result = compute_first_position_only(graph, tmp_path / "n.onnx")
    assert result.metrics["nodes_on_first_position"] > 10
    assert result.metrics["max_abs_difference"] < 1e-5


def test_a_head_that_reads_the_mean_keeps_every_position(tmp_path: Path) -> None:
    text = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    node = helper.make_node("ReduceMean", ["x", "axes"], ["logits"], keepdims=0)
    graph = helper.make_graph([node], "mean", [text], [logits], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    before = model.SerializeToString()
    assert keep_first_position(model) == 0
    assert model.SerializeToString() == before


def test_a_rewrite_that_changes_the_logits_is_refused(
    pruned_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pocketformer.export.first_position as module

    def wrong(model: Any) -> int:
        bias = next(item for item in model.graph.initializer if item.name == "classifier.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
        return 1

    monkeypatch.setattr(module, "keep_first_position", wrong)
    with pytest.raises(ParityError, match="by 1"):
        compute_first_position_only(pruned_graph, tmp_path / "n.onnx")
    assert not (tmp_path / "n.onnx").exists()
