from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForSequenceClassification, RobertaConfig

from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.export.graph_file import load_graph, random_feeds
from pocketformer.export.onnx_export import export_onnx
from pocketformer.export.sliced_positions import slice_positions
from pocketformer.runtime.engine import OnnxRuntimeEngine


def table(path: Path) -> str:
    """The name of the position table, which each exporter chooses itself."""
    return next(
        item.name for item in load_graph(path).graph.initializer if "position_embeddings" in item.name
    )


def readers(path: Path) -> list[str]:
    return [node.op_type for node in load_graph(path).graph.node if table(path) in node.input]


@pytest.mark.parametrize("exporter", ["optimum", "dynamo"])
def test_rows_are_copied_and_not_looked_up(
    exporter: str, pruned_model: torch.nn.Module, tiny_model_dir: Path, tmp_path: Path
) -> None:
    source = export_onnx(pruned_model, tiny_model_dir, tmp_path / "model.onnx", exporter=exporter).output
    result = slice_positions(source, tmp_path / "sliced.onnx")
    assert result is not None
    assert result.metrics["tables"] == 1
    assert readers(source) == ["Gather"]
    assert readers(result.output) == ["Slice"]
    graph = load_graph(source)
    for batch, length in ((1, 1), (3, 7), (2, 16)):
        feeds = dict(random_feeds(graph, batch, length))
        before, after = (OnnxRuntimeEngine(path).run(feeds) for path in (source, result.output))
        np.testing.assert_array_equal(before, after)


def test_a_fused_graph_is_sliced_too(pruned_graph: Path, tmp_path: Path) -> None:
    fused = fuse_for_onnxruntime(
        pruned_graph, tmp_path / "fused.onnx", heads=[3, 4, 1], hidden_size=32, fuse_embeddings=False
    ).output
    result = slice_positions(fused, tmp_path / "sliced.onnx")
    assert result is not None
    assert readers(result.output) == ["Slice"]


def test_positions_that_start_elsewhere_stay(pruned_graph: Path, tmp_path: Path) -> None:
    model = load_graph(pruned_graph)
    gather = next(node for node in model.graph.node if table(pruned_graph) in node.input)
    cut = next(node for node in model.graph.node if gather.input[1] in node.output)
    places = next(node for node in model.graph.node if cut.input[0] in node.output)
    moved = onnx.numpy_helper.to_array(places.attribute[0].t)[:, ::-1].copy()
    places.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(moved))
    onnx.save(model, tmp_path / "moved.onnx")
    assert slice_positions(tmp_path / "moved.onnx", tmp_path / "out.onnx") is None
    assert not (tmp_path / "out.onnx").exists()


def test_positions_that_depend_on_the_padding_stay(tiny_model_dir: Path, tmp_path: Path) -> None:
    config = RobertaConfig(
        vocab_size=90,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        type_vocab_size=1,
        pad_token_id=1,
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    source = export_onnx(model, tiny_model_dir, tmp_path / "model.onnx").output
    assert slice_positions(source, tmp_path / "out.onnx") is None
