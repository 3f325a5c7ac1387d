"""A tiny trained-looking model with its fp32 graphs, plain and fused, made once for this room's tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(scope="session")
def pruned_model(tiny_model_dir: Path) -> Any:
    """Another number of heads in each layer; weights and biases shaken, because fresh biases are zero."""
    import torch
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(str(tiny_model_dir)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.bert.encoder.layer[0].attention.prune_heads([2])
    model.bert.encoder.layer[2].attention.prune_heads([0, 1, 3])
    return model.eval()


@pytest.fixture(scope="session")
def graphs(
    pruned_model: Any, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    from pocketformer.export.fuse import fuse_for_onnxruntime
    from pocketformer.export.onnx_export import export_onnx

    directory = tmp_path_factory.mktemp("graphs")
    plain = export_onnx(pruned_model, tiny_model_dir, directory / "plain.onnx").output
    fused = fuse_for_onnxruntime(plain, directory / "fused.onnx", heads=[3, 4, 1], hidden_size=32).output
    return {"plain": plain, "fused": fused}


@pytest.fixture(scope="session")
def feeds(pruned_model: Any) -> list[Mapping[str, NDArray[np.int64]]]:
    """Eight batches of ids with padding on the right, of different shapes as real ones are."""
    rng = np.random.default_rng(0)
    batches = []
    for number in range(8):
        rows, length = 4 - number % 2, 12 - number
        mask = (np.arange(length)[None, :] < rng.integers(3, length + 1, size=(rows, 1))).astype(np.int64)
        ids = rng.integers(0, pruned_model.config.vocab_size, (rows, length)) * mask
        batches.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
    return batches
