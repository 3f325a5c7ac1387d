"""Quantizers on a graph whose word table is two factors: the look-up feeds a product, which is quantized itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pocketformer.compress.quantize.config import DynamicConfig, EmbeddingsConfig, StaticConfig
from pocketformer.compress.quantize.embeddings import quantize_embeddings
from pocketformer.compress.quantize.onnxruntime_dynamic import quantize_dynamic
from pocketformer.compress.quantize.onnxruntime_static import quantize_static
from pocketformer.export.factored_tables import factor_tables
from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.runtime.engine import OnnxRuntimeEngine

TABLES = {
    "rows": EmbeddingsConfig(smallest_bytes=512),
    "rows with half scales": EmbeddingsConfig(half_scales=True, symmetric=False, smallest_bytes=512),
    "blocks": EmbeddingsConfig(bits=4, block_size=16, symmetric=False, smallest_bytes=512),
    "codebook": EmbeddingsConfig(codebook_group=3, smallest_bytes=512),
}


@pytest.fixture(scope="module", params=["plain", "fused"])
def factored(
    request: pytest.FixtureRequest, graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("factored")
    model = onnx.load(str(graphs["plain"]))
    table = next(item for item in model.graph.initializer if "word_embeddings.weight" in item.name)
    values = numpy_helper.to_array(table)
    directions = np.linalg.svd(values, full_matrices=False)[2][:8]
    table.CopyFrom(numpy_helper.from_array((values @ directions.T) @ directions, table.name))
    onnx.save(model, folder / "low.onnx")
    low = folder / "low.onnx"
    if request.param == "fused":
        low = fuse_for_onnxruntime(
            low, folder / "fused.onnx", heads=[3, 4, 1], hidden_size=32, fuse_embeddings=False
        ).output
    result = factor_tables(low, folder / "factored.onnx", smallest_bytes=512)
    assert result is not None
    assert result.metrics["rank"] == 8
    return result.output


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("products", ["dynamic", "static"])
def test_every_way_to_store_the_factor_loads_and_answers(
    products: str, tables: str, factored: Path, feeds: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    if products == "dynamic":
        source = quantize_dynamic(factored, tmp_path / "d.onnx", DynamicConfig(reduce_range=True)).output
    else:
        source = quantize_static(factored, tmp_path / "s.onnx", StaticConfig(reduce_range=True), feeds).output
    result = quantize_embeddings(source, tmp_path / "q.onnx", TABLES[tables])
    assert any("factor_codes" in item.name for item in onnx.load(str(result.output)).graph.initializer)
    before, after = (OnnxRuntimeEngine(path).run(feeds[0]) for path in (factored, result.output))
    assert 0 < np.abs(before - after).max() < 0.5 * np.abs(before).max()
