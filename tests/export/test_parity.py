from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.export.parity import check_parity, positions
from pocketformer.runtime.errors import ParityError


def spoil(graph: Path, output: Path, part: str) -> Path:
    """Add 0.5 to one element of the bias whose name holds ``part``."""
    model = onnx.load(str(graph))
    item = next(item for item in model.graph.initializer if part in item.name)
    values = numpy_helper.to_array(item).copy()
    values[0] += 0.5
    item.CopyFrom(numpy_helper.from_array(values, item.name))
    onnx.save(model, str(output))
    return output


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ("embeddings.LayerNorm.bias", "the embeddings"),
        ("layer.0.output.dense.bias", "encoder layer 0"),
        ("layer.1.attention.self.value.bias", "encoder layer 1"),
        ("layer.2.intermediate.dense.bias", "encoder layer 2"),
        ("classifier.bias", "the classification head"),
    ],
)
def test_the_first_differing_layer_is_named(
    part: str, where: str, pruned_model: Any, pruned_graph: Path, tmp_path: Path
) -> None:
    spoiled = spoil(pruned_graph, tmp_path / "m.onnx", part)
    size = pruned_model.config.vocab_size
    with pytest.raises(ParityError, match=f"first differing layer: {where}") as caught:
        check_parity(pruned_model, spoiled, vocab_size=size, shapes=[(2, 9)], tolerance=1e-5)
    assert "batch 2 x sequence 9" in caught.value.message


def test_layers_are_found_in_fused_graphs_too(pruned_model: Any, pruned_graph: Path, tmp_path: Path) -> None:
    fused = fuse_for_onnxruntime(pruned_graph, tmp_path / "f.onnx", heads=[3, 4, 1], hidden_size=32).output
    size = pruned_model.config.vocab_size
    check_parity(pruned_model, fused, vocab_size=size)
    spoiled = spoil(fused, tmp_path / "m.onnx", "layer.1.output.dense.bias")
    with pytest.raises(ParityError, match="encoder layer 1"):
        check_parity(pruned_model, spoiled, vocab_size=size, shapes=[(2, 9)], tolerance=1e-5)


def test_not_a_number_fails(pruned_model: Any, pruned_graph: Path, tmp_path: Path) -> None:
    model = onnx.load(str(pruned_graph))
    item = next(item for item in model.graph.initializer if "classifier.bias" in item.name)
    item.CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), item.name))
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(ParityError, match="nan"):
        check_parity(pruned_model, tmp_path / "m.onnx", vocab_size=50)


def test_positions_of_roberta_start_after_the_padding_id() -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    model = RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=50,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=40,
            pad_token_id=1,
        )
    )
    assert positions(model) == 38
