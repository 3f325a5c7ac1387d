"""A planted outlier breaks one product in int8: it is found, and with it in float32 the rest holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.compress.quantize.candidates import candidate_by_name, mixed
from pocketformer.compress.quantize.config import DynamicConfig, StaticConfig
from pocketformer.compress.quantize.portfolio import quantize_candidate
from pocketformer.compress.quantize.sensitivity import most_sensitive_first, products_of
from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.export.onnx_export import export_onnx
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import InputError

Feeds = list[Mapping[str, Any]]


@pytest.fixture(scope="module")
def planted(
    pruned_model: Any, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Graphs in which one neuron of the middle layer is always 1000 and nothing reads it."""
    import copy

    import torch

    model = copy.deepcopy(pruned_model)
    with torch.no_grad():
        layer = model.bert.encoder.layer[1]
        layer.intermediate.dense.weight[3] = 0
        layer.intermediate.dense.bias[3] = 1000
        layer.output.dense.weight *= 20
        layer.output.dense.weight[:, 3] = 0
    folder = tmp_path_factory.mktemp("planted")
    plain = export_onnx(model, tiny_model_dir, folder / "plain.onnx").output
    fused = fuse_for_onnxruntime(
        plain, folder / "fused.onnx", heads=[3, 4, 1], hidden_size=32, fuse_embeddings=False
    ).output
    return {"plain": plain, "fused": fused}


def _error(path: Path, reference: Path, feeds: Feeds) -> float:
    actual, expected = OnnxRuntimeEngine(path), OnnxRuntimeEngine(reference)
    return float(np.mean([np.abs(actual.run(feed) - expected.run(feed)).mean() for feed in feeds]))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("dynamic-fused-reduced", DynamicConfig(reduce_range=True)),
        ("static-plain-reduced", StaticConfig(reduce_range=True)),
    ],
)
def test_the_planted_product_is_found_and_left_in_float32(
    name: str, config: DynamicConfig | StaticConfig, planted: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    graph = planted[candidate_by_name(name).graph]
    found = most_sensitive_first(graph, config, sample=feeds[:3], calibration=feeds, work=tmp_path)
    assert "layer.1/output/dense" in found[0].name
    assert found[0].error > 10 * max(product.error for product in found[1:])
    assert sorted(p.name for p in found) == sorted(p.name for p in products_of(graph, config))
    assert list(tmp_path.iterdir()) == []

    def made(candidate: str, kept: tuple[str, ...]) -> Any:
        return quantize_candidate(
            candidate,
            graphs=planted,
            output=tmp_path / f"{candidate}.onnx",
            calibration=feeds,
            float_products=kept,
        )

    whole, part = made(name, ()), made(f"{name}-mixed", (found[0].name,))
    assert part.metrics["quantized_products"] == whole.metrics["quantized_products"] - 1
    broken = _error(whole.output, graph, feeds)
    assert _error(part.output, graph, feeds) < 0.2 * broken


def test_mixed_candidates_say_what_they_are(planted: dict[str, Path], tmp_path: Path) -> None:
    candidate = mixed(candidate_by_name("dynamic-fused"), ("a",))
    assert candidate.name == "dynamic-fused-mixed"
    assert candidate_by_name("dynamic-fused-mixed").precision == candidate.precision
    with pytest.raises(InputError, match="none is named"):
        quantize_candidate("dynamic-fused-mixed", graphs=planted, output=tmp_path / "q.onnx")
    both = candidate_by_name("dynamic-fused-smooth-mixed")
    assert (both.name, both.smoothing is None) == ("dynamic-fused-smooth-mixed", False)
    with pytest.raises(InputError, match="cannot be smoothed"):
        candidate_by_name("neural-compressor-static-smooth")
    with pytest.raises(InputError, match="cannot leave single products"):
        candidate_by_name("fp32-fused-mixed")
