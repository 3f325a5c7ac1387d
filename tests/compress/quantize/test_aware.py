"""Quantization-aware training computes what ships, leaves the model as it was, and brings it nearer to its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.compress.augmentation import AugmentationConfig
from pocketformer.compress.context import StepContext
from pocketformer.compress.data import DataAudit, Dataset, Splits
from pocketformer.compress.distill import DistillConfig
from pocketformer.compress.encoding import TextEncoding, predict_logits
from pocketformer.compress.models import load_classifier, save_classifier
from pocketformer.compress.quantize.aware import QatConfig, quantized_products, train_quantized
from pocketformer.compress.quantize.config import DynamicConfig
from pocketformer.compress.quantize.onnxruntime_dynamic import quantize_dynamic
from pocketformer.compress.training import TrainingConfig
from pocketformer.export.first_position import compute_first_position_only
from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import RecipeError


def _logits(model: Any, feed: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    import torch

    with torch.no_grad():
        out: np.ndarray[Any, Any] = model(**{k: torch.from_numpy(v) for k, v in feed.items()}).logits.numpy()
    return out


@pytest.mark.parametrize("kind", ["plain", "fused"])
def test_training_computes_what_the_quantized_graph_computes(
    kind: str, pruned_model: Any, graphs: dict[str, Path], feeds: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    graph = graphs["plain"]
    if kind == "fused":
        graph = fuse_for_onnxruntime(
            graph, tmp_path / "f.onnx", heads=[3, 4, 1], hidden_size=32, fuse_embeddings=False
        ).output
    graph = compute_first_position_only(graph, tmp_path / "cut.onnx").output
    quantized = quantize_dynamic(graph, tmp_path / "q.onnx", DynamicConfig(reduce_range=True)).output
    before = [_logits(pruned_model, feed) for feed in feeds]
    with quantized_products(pruned_model, QatConfig()):
        trained = [_logits(pruned_model, feed) for feed in feeds]
    engine = OnnxRuntimeEngine(quantized)
    lost = np.concatenate([(engine.run(f) - x).ravel() for f, x in zip(feeds, before, strict=True)])
    wrong = np.concatenate([(engine.run(f) - x).ravel() for f, x in zip(feeds, trained, strict=True)])
    # A value that lies between two codes may fall to either side; all others are the same.
    assert np.median(np.abs(wrong)) < 0.02 * np.median(np.abs(lost))
    after = [_logits(pruned_model, feed) for feed in feeds]
    assert all(np.array_equal(x, y) for x, y in zip(before, after, strict=True))


def test_four_bits_round_more_than_eight(pruned_model: Any, feeds: list[Mapping[str, Any]]) -> None:
    exact = _logits(pruned_model, feeds[0])

    def lost(**settings: Any) -> float:
        with quantized_products(pruned_model, QatConfig(**settings)):
            return float(np.abs(_logits(pruned_model, feeds[0]) - exact).mean())

    eight = lost(reduce_range=False, activations="float32")
    four = lost(weight_bits=4, activations="float32")
    assert 0 < 4 * eight < four


def test_settings_that_cannot_be() -> None:
    with pytest.raises(RecipeError, match="block_size is 24"):
        QatConfig(block_size=24)
    with pytest.raises(RecipeError, match="keeps all layers"):
        QatConfig(distillation=DistillConfig(layers=2))


def test_trained_for_four_bits_it_is_nearer_to_its_teacher_in_four_bits(
    tiny_model_dir: Path, tiny_texts: list[str], tiny_labels: list[int], tmp_path: Path
) -> None:
    import torch

    teacher_model = load_classifier(tiny_model_dir)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # fresh weights are so small that rounding them shows nothing
        for parameter in teacher_model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    teacher_model.config.hidden_dropout_prob = teacher_model.config.attention_probs_dropout_prob = 0.0
    source = save_classifier(teacher_model, tiny_model_dir, tmp_path / "teacher")
    training = TrainingConfig(epochs=6, learning_rate=1e-3, batch_size=8, keep="average")
    config = QatConfig(
        weight_bits=4,
        activations="float32",
        distillation=DistillConfig(augmentation=AugmentationConfig(copies=1), training=training),
    )
    splits = Splits(
        train=Dataset(texts=tuple(tiny_texts[:48]), labels=tuple(tiny_labels[:48])),
        validation=Dataset(texts=tuple(tiny_texts[48:]), labels=tuple(tiny_labels[48:])),
        label_names=("animal", "place", "person"),
        audit=DataAudit(rows_read=60),
    )
    context = StepContext(
        splits=splits, output=tmp_path / "model", work=tmp_path / "work", teacher=source, max_length=16
    )
    result = train_quantized(source, config, context)
    encoding = TextEncoding(source, 16)
    rows = encoding.encode(tiny_texts[48:])
    teacher = predict_logits(load_classifier(source), rows, encoding.pad_id)

    def distance(folder: Path) -> float:
        model = load_classifier(folder)
        with quantized_products(model, config):
            return float(np.abs(predict_logits(model, rows, encoding.pad_id) - teacher).mean())

    assert distance(result.output) < 0.8 * distance(source)
    assert "quantized_accuracy" in result.metrics
