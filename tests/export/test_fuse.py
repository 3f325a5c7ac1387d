from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.export.graph_file import load_graph, random_feeds
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import ModelError


def heads_of(graph: Path) -> list[int]:
    nodes = [node for node in onnx.load(str(graph)).graph.node if node.op_type == "Attention"]
    return [attribute.i for node in nodes for attribute in node.attribute if attribute.name == "num_heads"]


@pytest.mark.parametrize("any_mask", [True, False])
@pytest.mark.parametrize("fuse_embeddings", [True, False])
@pytest.mark.parametrize("fuse_norms", [True, False])
def test_layers_with_different_heads_all_fuse(
    pruned_graph: Path, tmp_path: Path, any_mask: bool, fuse_embeddings: bool, fuse_norms: bool
) -> None:
    path = list(sys.path)
    result = fuse_for_onnxruntime(
        pruned_graph,
        tmp_path / "f.onnx",
        heads=[3, 4, 1],
        hidden_size=32,
        any_mask=any_mask,
        fuse_embeddings=fuse_embeddings,
        fuse_norms=fuse_norms,
    )
    assert heads_of(result.output) == [3, 4, 1]
    assert result.metrics["Attention"] == 3
    assert result.metrics["SkipLayerNormalization"] == 6 * fuse_norms
    assert result.metrics["BiasGelu"] == 3 * fuse_norms
    assert result.metrics["EmbedLayerNormalization"] == int(fuse_embeddings)
    assert result.metrics["max_abs_difference"] < 1e-5
    assert not result.notes
    assert sys.path == path


def test_a_mask_with_a_hole_means_the_same_to_the_fused_graph(pruned_graph: Path, tmp_path: Path) -> None:
    fused = fuse_for_onnxruntime(pruned_graph, tmp_path / "f.onnx", heads=[3, 4, 1], hidden_size=32).output
    feeds = dict(random_feeds(load_graph(pruned_graph), 2, 9))
    mask = np.ones((2, 9), np.int64)
    mask[0, 3] = mask[1, 0] = 0
    feeds["attention_mask"] = mask
    before, after = OnnxRuntimeEngine(pruned_graph).run(feeds), OnnxRuntimeEngine(fused).run(feeds)
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_only_domains_that_are_used_stay_imported(pruned_graph: Path, tmp_path: Path) -> None:
    fused = fuse_for_onnxruntime(pruned_graph, tmp_path / "f.onnx", heads=[3, 4, 1], hidden_size=32).output
    assert {item.domain for item in onnx.load(str(fused)).opset_import} == {"", "com.microsoft"}


def test_a_layer_that_did_not_fuse_is_told(pruned_graph: Path, tmp_path: Path) -> None:
    result = fuse_for_onnxruntime(pruned_graph, tmp_path / "f.onnx", heads=[3, 4, 2, 1], hidden_size=32)
    assert "attention fused in 3 of 4 layers" in result.notes[0]


def test_eager_attention_fuses(tiny_model_dir: Path, tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    from pocketformer.export.onnx_export import export_onnx

    model: Any = BertForSequenceClassification.from_pretrained(
        str(tiny_model_dir), attn_implementation="eager"
    ).eval()
    model.bert.encoder.layer[1].attention.prune_heads([0])
    plain = export_onnx(model, tiny_model_dir, tmp_path / "p.onnx").output
    result = fuse_for_onnxruntime(plain, tmp_path / "f.onnx", heads=[4, 3, 4], hidden_size=32)
    assert heads_of(result.output) == [4, 3, 4]


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a graph at all")
    with pytest.raises(ModelError, match=r"m\.onnx"):
        fuse_for_onnxruntime(tmp_path / "m.onnx", tmp_path / "f.onnx", heads=[1], hidden_size=8)
    with pytest.raises(ModelError, match="no ONNX file"):
        fuse_for_onnxruntime(tmp_path / "none.onnx", tmp_path / "f.onnx", heads=[1], hidden_size=8)
