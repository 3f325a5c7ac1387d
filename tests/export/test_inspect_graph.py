from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketformer.export.inspect_graph import inspect_graph
from pocketformer.runtime.errors import ModelError


def test_bytes_and_parameters_of_a_plain_graph_add_up(tiny_graph: Path, tiny_model_dir: Path) -> None:
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(str(tiny_model_dir))
    summary = inspect_graph(tiny_graph)
    # Position ids are stored as constants of their own, so the graph holds a few more elements.
    assert 0 <= summary.parameters - model.num_parameters() < 100
    assert summary.precision == "fp32"
    assert not summary.quantized
    assert sum(summary.initializer_bytes.values()) == sum(summary.dtype_bytes.values()) < summary.bytes
    embeddings = model.bert.embeddings
    tables = (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings)
    assert summary.initializer_bytes["embeddings"] == 4 * sum(table.weight.numel() for table in tables)
    assert summary.opset == 18
    assert sum(summary.operators.values()) == summary.nodes
    json.dumps(summary.to_dict())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no ONNX file"):
        inspect_graph(tmp_path / "m.onnx")
