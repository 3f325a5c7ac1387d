from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import onnx
import pytest

from pocketformer.export.first_position import compute_first_position_only
from pocketformer.export.onnx_export import export_onnx, model_inputs
from pocketformer.export.parity import check_parity
from pocketformer.runtime.errors import ExportError


def vocabulary(model: Any) -> int:
    return int(model.config.vocab_size)


def test_pruned_layers_of_different_width_export_with_free_axes(
    pruned_model: Any, pruned_graph: Path
) -> None:
    graph = onnx.load(str(pruned_graph))
    assert [item.name for item in graph.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    for item in graph.graph.input:
        assert [dim.dim_param for dim in item.type.tensor_type.shape.dim] == ["batch", "sequence"]
    assert [item.name for item in graph.graph.output] == ["logits"]
    result = check_parity(pruned_model, pruned_graph, vocab_size=vocabulary(pruned_model))
    assert result.metrics["max_abs_difference"] < 1e-5
    assert result.metrics["shapes"] == 6  # the longest is cut to the model's 64 positions


def test_dynamo_exports_the_same_model(pruned_model: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    result = export_onnx(pruned_model, tiny_model_dir, tmp_path / "d.onnx", exporter="dynamo")
    assert result.metrics["ir_version"] <= 10
    assert [path.name for path in tmp_path.iterdir()] == ["d.onnx"]
    parity = check_parity(pruned_model, result.output, vocab_size=vocabulary(pruned_model))
    assert parity.metrics["max_abs_difference"] < 1e-5


def test_nothing_of_the_exporting_machine_stays_in_the_file(pruned_graph: Path) -> None:
    content = pruned_graph.read_bytes()
    assert b"site-packages" not in content
    assert str(Path.home()).encode() + b"/" not in content
    assert not onnx.load(str(pruned_graph)).graph.value_info


def test_exporting_opens_no_connection(
    pruned_model: Any, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    export_onnx(pruned_model, tiny_model_dir, tmp_path / "m.onnx")


def test_training_mode_is_put_back_and_does_not_reach_the_graph(
    pruned_model: Any, tiny_model_dir: Path, tmp_path: Path
) -> None:
    pruned_model.train()
    try:
        result = export_onnx(pruned_model, tiny_model_dir, tmp_path / "m.onnx")
        assert pruned_model.training
        check_parity(pruned_model, result.output, vocab_size=vocabulary(pruned_model), shapes=[(2, 9)])
        assert pruned_model.training
    finally:
        pruned_model.eval()


def test_other_families_export(tiny_model_dir: Path, tmp_path: Path) -> None:
    from transformers import (
        DistilBertConfig,
        DistilBertForSequenceClassification,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    roberta = RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=90,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=40,
            type_vocab_size=1,
            pad_token_id=1,
        )
    ).eval()
    distilbert = DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=90, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40
        )
    ).eval()
    for name, model in (("roberta", roberta), ("distilbert", distilbert)):
        result = export_onnx(model, tiny_model_dir, tmp_path / f"{name}.onnx")
        graph = onnx.load(str(result.output))
        assert [item.name for item in graph.graph.input] == ["input_ids", "attention_mask"]
        check_parity(model, result.output, vocab_size=90)
        narrow = compute_first_position_only(result.output, tmp_path / f"{name}-narrow.onnx")
        assert narrow.metrics["nodes_on_first_position"] > 10, name


def test_wrong_settings_are_named(pruned_model: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no exporter 'tflite'"):
        export_onnx(pruned_model, tiny_model_dir, tmp_path / "m.onnx", exporter="tflite")
    with pytest.raises(ExportError, match="opset 21"):
        export_onnx(pruned_model, tiny_model_dir, tmp_path / "m.onnx", opset=21)


def test_a_model_that_fails_leaves_no_file_and_an_error(tiny_model_dir: Path, tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    class Broken(BertForSequenceClassification):  # type: ignore[misc]
        def forward(
            self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None
        ) -> Any:
            raise RuntimeError("no such layer")

    model = Broken.from_pretrained(str(tiny_model_dir))
    with pytest.raises(ExportError, match=r"optimum could not export Broken.*no such layer"):
        export_onnx(model, tiny_model_dir, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_inputs_follow_the_tokenizer(pruned_model: Any, tmp_path: Path) -> None:
    assert model_inputs(pruned_model, tmp_path) == ("input_ids", "attention_mask", "token_type_ids")
    (tmp_path / "tokenizer_config.json").write_text('{"model_input_names": ["input_ids", "attention_mask"]}')
    assert model_inputs(pruned_model, tmp_path) == ("input_ids", "attention_mask")
