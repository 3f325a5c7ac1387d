from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from pocketformer.compress.context import StepContext
from pocketformer.compress.data import Dataset
from pocketformer.compress.distill import DistillConfig, distill
from pocketformer.compress.families import layer_parts
from pocketformer.compress.finetune import FinetuneConfig, finetune
from pocketformer.compress.models import load_classifier
from pocketformer.compress.prune.sparsity import SparsityConfig, hold_zeros, sparsify_step
from pocketformer.compress.quantize.config import DynamicConfig
from pocketformer.compress.quantize.onnxruntime_dynamic import quantize_dynamic
from pocketformer.compress.training import TrainingConfig
from pocketformer.export.onnx_export import export_onnx
from pocketformer.export.tensorrt.sparsity import find_sparsity
from pocketformer.runtime.errors import RecipeError


@pytest.fixture
def context(
    tiny_texts: list[str], tiny_labels: list[int], tmp_path: Path, tiny_model_dir: Path
) -> StepContext:
    texts, labels = tuple(tiny_texts), tuple(tiny_labels)
    names = tuple(str(label) for label in sorted(set(labels)))
    splits: Any = SimpleNamespace(
        train=Dataset(texts=texts[:50], labels=labels[:50]),
        validation=Dataset(texts=texts[50:], labels=labels[50:]),
        unlabeled=(),
        label_names=names,
    )
    return StepContext(
        splits=splits,
        output=tmp_path / "sparse",
        work=tmp_path / "work",
        max_length=32,
        teacher=tiny_model_dir,
    )


def maps(directory: Path) -> list[torch.Tensor]:
    parts = layer_parts(load_classifier(directory))
    return [getattr(part, name).weight.detach() for part in parts for name in vars(part)]


def into(context: StepContext, output: Path) -> StepContext:
    from dataclasses import replace

    return replace(context, output=output, work=output.parent / f"{output.name}-work")


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_a_share_of_every_map_becomes_zero(method: Any, tiny_model_dir: Path, context: StepContext) -> None:
    result = sparsify_step(tiny_model_dir, SparsityConfig(pattern=0.6, method=method), context)
    assert result.metrics["sparsity"] == pytest.approx(0.6, abs=0.01)
    for before, after in zip(maps(tiny_model_dir), maps(result.output), strict=True):
        assert float((after == 0).float().mean()) == pytest.approx(0.6, abs=0.02)
        changed = not torch.equal(before[after != 0], after[after != 0])
        assert changed == (method == "sparsegpt")


@pytest.mark.parametrize("how", ["finetune", "distill"])
def test_zeros_stay_zero_through_training_export_and_int8(
    how: str, tiny_model_dir: Path, context: StepContext, tmp_path: Path
) -> None:
    sparse = sparsify_step(tiny_model_dir, SparsityConfig(pattern="2:4"), context).output
    training = TrainingConfig(epochs=2, learning_rate=1e-2, weight_decay=0.1, batch_size=16)
    step: Any = finetune if how == "finetune" else distill
    config: Any = (FinetuneConfig if how == "finetune" else DistillConfig)(training=training)
    trained = step(sparse, config, into(context, tmp_path / "trained")).output
    for before, after in zip(maps(sparse), maps(trained), strict=True):
        assert (after[before == 0] == 0).all()
        assert not torch.equal(before, after)
    graph = export_onnx(load_classifier(trained), trained, tmp_path / "model.onnx").output
    found = {product.node: product for product in find_sparsity(graph)}
    assert sum(product.is_sparse for product in found.values()) == 3 * 6
    int8 = quantize_dynamic(graph, tmp_path / "int8.onnx", DynamicConfig()).output
    stored = [
        numpy_helper.to_array(item)
        for item in onnx.load(str(int8)).graph.initializer
        if item.data_type == onnx.TensorProto.INT8 and len(item.dims) == 2
    ]
    sparse_ones = [w for w in stored if (np.count_nonzero(w.reshape(-1, 4, w.shape[1]), axis=1) <= 2).all()]
    assert len(sparse_ones) == 3 * 6


def test_without_holding_training_fills_the_zeros(tiny_model_dir: Path, context: StepContext) -> None:
    """What the test above would see if nothing were held; a dense model is left alone."""
    sparse = sparsify_step(tiny_model_dir, SparsityConfig(), context).output
    filled = {}
    for held in (True, False):
        model = load_classifier(sparse).train()
        assert hold_zeros(model) == 3 * 6 if held else True
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        model(input_ids=torch.tensor([[2, 5, 6, 3]]), labels=torch.tensor([0])).loss.backward()
        optimizer.step()
        pairs = zip(before, model.parameters(), strict=True)
        filled[held] = sum(int(((a == 0) & (b != 0)).sum()) for a, b in pairs if a.ndim == 2)
    assert filled[True] < filled[False] / 2
    assert hold_zeros(load_classifier(tiny_model_dir)) == 0


def test_patterns_that_cannot_be_are_refused() -> None:
    for pattern in (1.0, 0.0, 2, "1:4"):
        with pytest.raises(RecipeError, match="pattern"):
            SparsityConfig(pattern=pattern)  # type: ignore[arg-type]
