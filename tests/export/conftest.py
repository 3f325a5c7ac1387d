"""Tiny models and their graphs, made once for this room's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def tiny_classifier(tiny_model_dir: Path) -> Any:
    """Fresh biases are all zero, which hides a lost bias and lets the exporter merge them: shake them."""
    import torch
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(str(tiny_model_dir)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def pruned_classifier(tiny_model_dir: Path) -> Any:
    """3, 4 and 1 heads of 4; FFN widths 24, 64 and 40 of 64."""
    import torch

    model = tiny_classifier(tiny_model_dir)
    layers = model.bert.encoder.layer
    layers[0].attention.prune_heads([2])
    layers[2].attention.prune_heads([0, 1, 3])
    for layer, width in ((layers[0], 24), (layers[2], 40)):
        inner, outer = torch.nn.Linear(32, width), torch.nn.Linear(width, 32)
        inner.weight.data = layer.intermediate.dense.weight.data[:width].clone()
        inner.bias.data = layer.intermediate.dense.bias.data[:width].clone()
        outer.weight.data = layer.output.dense.weight.data[:, :width].clone()
        outer.bias.data = layer.output.dense.bias.data.clone()
        layer.intermediate.dense, layer.output.dense = inner, outer
    return model.eval()


@pytest.fixture(scope="session")
def pruned_model(tiny_model_dir: Path) -> Any:
    return pruned_classifier(tiny_model_dir)


@pytest.fixture(scope="session")
def pruned_graph(pruned_model: Any, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pocketformer.export.onnx_export import export_onnx

    output = tmp_path_factory.mktemp("pruned") / "model.onnx"
    return export_onnx(pruned_model, tiny_model_dir, output).output


@pytest.fixture(scope="session")
def tiny_graph(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pocketformer.export.onnx_export import export_onnx

    output = tmp_path_factory.mktemp("plain") / "model.onnx"
    return export_onnx(tiny_classifier(tiny_model_dir), tiny_model_dir, output).output


@pytest.fixture(scope="session")
def cli_json() -> Any:
    """The command line in this process: its exit code, and the JSON that it printed (None: none)."""
    import contextlib
    import io
    import json

    from pocketformer.cli import run_command

    def call(*arguments: object) -> tuple[int, Any]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = run_command([str(argument) for argument in (*arguments, "--json")])
        return code, json.loads(out.getvalue()) if out.getvalue().strip() else None

    return call
