from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pocketformer.compress.quantize.config import SmoothingConfig
from pocketformer.compress.quantize.portfolio import quantize_candidate
from pocketformer.compress.quantize.smoothing import smooth
from pocketformer.export.first_position import compute_first_position_only
from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.export.onnx_export import export_onnx
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import InputError

Feeds = list[Mapping[str, Any]]


@pytest.fixture(scope="module")
def outliers(
    pruned_model: Any, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Graphs of the tiny model with three channels of each normalization and of the values 30 times as large."""
    import copy

    import torch

    model = copy.deepcopy(pruned_model)
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
                norm.weight[[1, 7, 20]] *= 30
            layer.attention.self.value.weight[[0, 5]] *= 30
    folder = tmp_path_factory.mktemp("outliers")
    plain = export_onnx(model, tiny_model_dir, folder / "plain.onnx").output
    fused = fuse_for_onnxruntime(
        plain, folder / "fused.onnx", heads=[3, 4, 1], hidden_size=32, fuse_embeddings=False
    ).output
    cut = {"plain-cut": plain, "fused-cut": fused}
    return {"plain": plain, "fused": fused} | {
        name: compute_first_position_only(graph, folder / f"{name}.onnx").output
        for name, graph in cut.items()
    }


def _error(path: Path, reference: Path, feeds: Feeds) -> float:
    actual, expected = OnnxRuntimeEngine(path), OnnxRuntimeEngine(reference)
    return float(np.mean([np.abs(actual.run(feed) - expected.run(feed)).mean() for feed in feeds]))


@pytest.mark.parametrize("kind", ["plain", "fused", "plain-cut", "fused-cut"])
def test_logits_stay_and_outliers_go(
    kind: str, outliers: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    result = smooth(outliers[kind], tmp_path / "s.onnx", SmoothingConfig(), feeds)
    spread = OnnxRuntimeEngine(outliers["plain"]).run(feeds[1]).std()
    assert _error(result.output, outliers["plain"], feeds) < 1e-4 * spread + 1e-6
    # Two normalizations a layer and that of the embeddings, but the last, which the pooler reads through a Gather;
    # and the values of each layer.
    assert result.metrics["read_tensors"] == 3 * 2 + 3
    assert result.metrics["smoothed_tensors"] >= 6
    assert result.metrics["products_error"] < result.metrics["products_error_before"] / 2
    names = [item.name for item in onnx.load(str(result.output)).graph.initializer]
    assert len(set(names)) == len(names)


def test_smoothed_products_lose_less_in_eight_bits(
    outliers: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    graphs = {"plain": outliers["plain-cut"], "fused": outliers["fused-cut"]}

    def error(name: str) -> float:
        made = quantize_candidate(name, graphs=graphs, output=tmp_path / f"{name}.onnx", calibration=feeds)
        return _error(made.output, outliers["plain"], feeds)

    assert error("dynamic-fused-smooth") < 0.6 * error("dynamic-fused")
    assert error("static-plain-reduced-smooth") < 0.6 * error("static-plain-reduced")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".onnx"] * 4


def test_calibration_is_asked_for(graphs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs calibration texts"):
        smooth(graphs["plain"], tmp_path / "s.onnx", SmoothingConfig(), [])
    with pytest.raises(InputError, match="needs calibration texts"):
        quantize_candidate("dynamic-fused-smooth", graphs=graphs, output=tmp_path / "q.onnx")
