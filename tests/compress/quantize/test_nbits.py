from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pocketformer.compress.quantize.config import NBitsConfig
from pocketformer.compress.quantize.nbits import quantize_nbits
from pocketformer.compress.quantize.products import constant_products
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import AlreadyQuantizedError, InputError, ModelError

Feeds = list[Mapping[str, Any]]
FLOAT = NBitsConfig(smallest=64, accuracy_level=1)


def unpacked(path: Path, output: Path) -> Path:
    """The reference: every MatMulNBits as a MatMul with what its codes stand for, by the operator's description."""
    model = onnx.load(str(path))
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for place, node in enumerate(list(model.graph.node)):
        if node.op_type != "MatMulNBits":
            continue
        settings = {attribute.name: attribute.i for attribute in node.attribute}
        inputs, outputs, block = (settings[name] for name in ("K", "N", "block_size"))
        blocks = -(-inputs // block)
        codes = arrays[node.input[1]].reshape(outputs, blocks, block // 2)
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(outputs, blocks, block).astype(np.float32)
        zero: Any = 8.0
        if len(node.input) > 3:
            nibbles = arrays[node.input[3]].reshape(outputs, -1)
            zero = np.stack([nibbles & 15, nibbles >> 4], axis=-1).reshape(outputs, -1)[:, :blocks, None]
        weight = (codes - zero) * arrays[node.input[2]].reshape(outputs, blocks, 1)
        weight = weight.reshape(outputs, -1)[:, :inputs].T.astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weight), f"w{place}"))
        node.CopyFrom(helper.make_node("MatMul", [node.input[0], f"w{place}"], list(node.output)))
    onnx.save(model, str(output))
    return output


def answers(path: Path, feeds: Feeds) -> np.ndarray:
    engine = OnnxRuntimeEngine(path)
    return np.concatenate([engine.run(feed) for feed in feeds])


@pytest.mark.parametrize("method", ["rtn", "hqq", "gptq", "awq"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_operator_computes_with_what_the_codes_stand_for(
    method: Any, symmetric: bool, graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    config = replace(FLOAT, method=method, symmetric=symmetric)
    result = quantize_nbits(graphs["plain"], tmp_path / "q.onnx", config, feeds)
    reference = unpacked(result.output, tmp_path / "unpacked.onnx")
    assert np.allclose(answers(result.output, feeds), answers(reference, feeds), atol=1e-4)
    expected = answers(graphs["plain"], feeds)
    assert np.abs(answers(result.output, feeds) - expected).mean() < 0.3 * expected.std()


@pytest.mark.parametrize("block", [32, 64, 128])
def test_integer_products_are_close_to_float_ones(
    block: Any, graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    made = [
        quantize_nbits(
            graphs["plain"],
            tmp_path / f"{level}.onnx",
            replace(FLOAT, method="rtn", block_size=block, accuracy_level=level),
        ).output
        for level in (1, 4)
    ]
    exact, integer = (answers(path, feeds) for path in made)
    assert 0 < np.abs(exact - integer).mean() < 0.1 * exact.std()


def test_gptq_and_awq_cost_less_than_the_nearest_codes(
    graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    """Cost of the nearest codes: that of AWQ whose scales are all 1, measured on the same moments."""
    from pocketformer.compress.quantize.embeddings_core import quantize_table
    from pocketformer.compress.quantize.gptq_core import relative_cost
    from pocketformer.compress.quantize.products import input_moments

    model = onnx.load(str(graphs["plain"]))
    products = [product for product in constant_products(model) if product.weight.size >= 64]
    moments = input_moments(model, [product.read for product in products], feeds)
    nearest = np.mean(
        [
            relative_cost(
                product.weight.astype(float),
                quantize_table(product.weight.T, bits=4, block=32, symmetric=False, grid=1).dequantize().T,
                moments[product.read],
            )
            for product in products
        ]
    )
    costs = {
        method: quantize_nbits(
            graphs["plain"], tmp_path / "q.onnx", replace(FLOAT, method=method), feeds
        ).metrics["relative_cost"]
        for method in ("gptq", "awq")
    }
    assert costs["gptq"] < 0.7 * nearest
    assert costs["awq"] < nearest


def test_what_cannot_be_done_is_refused(graphs: dict[str, Path], feeds: Feeds, tmp_path: Path) -> None:
    output = tmp_path / "q.onnx"
    with pytest.raises(InputError, match="calibration"):
        quantize_nbits(graphs["plain"], output, FLOAT)
    with pytest.raises(ModelError, match="no product"):
        quantize_nbits(graphs["plain"], output, replace(FLOAT, smallest=10**9), feeds)
    once = quantize_nbits(graphs["plain"], output, replace(FLOAT, method="rtn")).output
    with pytest.raises(AlreadyQuantizedError, match="MatMulNBits"):
        quantize_nbits(once, tmp_path / "twice.onnx", replace(FLOAT, method="rtn"))
