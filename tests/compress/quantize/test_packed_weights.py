from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pocketformer.compress.quantize.config import DynamicConfig, PackedWeightsConfig
from pocketformer.compress.quantize.gptq_core import relative_cost
from pocketformer.compress.quantize.levels_core import integer_levels
from pocketformer.compress.quantize.onnxruntime_dynamic import quantize_dynamic
from pocketformer.compress.quantize.packed_weights import rounded
from pocketformer.compress.quantize.products import constant_products, input_moments
from pocketformer.export.inspect_graph import inspect_graph
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import InputError, ModelError

Feeds = list[Mapping[str, Any]]
EVERY = PackedWeightsConfig(smallest=64)


def expanded(path: Path, output: Path) -> onnx.ModelProto:
    """What onnxruntime makes of the graph before it optimizes for a processor: constants are folded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(output)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(str(output))


@pytest.mark.parametrize("kind", ["plain", "fused"])
@pytest.mark.parametrize("group", [2, 3])
def test_onnxruntime_runs_the_operators_of_int8_weights(
    kind: str, group: Any, graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    whole = quantize_dynamic(graphs[kind], tmp_path / "int8.onnx", DynamicConfig(reduce_range=True)).output
    config = DynamicConfig(reduce_range=True, packed=replace(EVERY, group=group, method="rtn"))
    result = quantize_dynamic(graphs[kind], tmp_path / "packed.onnx", config)
    assert result.metrics["packed_products"] >= 3 * 4 + 1
    assert inspect_graph(result.output).precision.startswith(
        f"int8-dynamic-weights-{ {2: 16, 3: 6}[group] }-levels"
    )
    models = [expanded(path, tmp_path / f"{path.stem}-expanded.onnx") for path in (whole, result.output)]
    operators = [sorted(node.op_type for node in model.graph.node) for model in models]
    assert operators[0] == operators[1]
    assert {"Reshape", "Slice"} & set(operators[1]) <= set(operators[0])
    engine, reference = OnnxRuntimeEngine(result.output), OnnxRuntimeEngine(graphs["plain"])
    expected = np.concatenate([reference.run(feed) for feed in feeds])
    actual = np.concatenate([engine.run(feed) for feed in feeds])
    assert np.abs(actual - expected).mean() < (0.25 if group == 2 else 0.7) * expected.std()


def test_the_file_holds_half_a_byte_for_each_weight(
    graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    config = DynamicConfig(packed=EVERY)
    path = quantize_dynamic(graphs["plain"], tmp_path / "q.onnx", config, feeds).output
    products = constant_products(onnx.load(str(graphs["plain"])))
    stored = {item.name: item for item in onnx.load(str(path)).graph.initializer}
    packed = [product for product in products if product.weight.size >= 64]
    for product in packed:
        codes = numpy_helper.to_array(stored[f"{product.name}_quantized_codes"])
        inputs, outputs = product.weight.shape
        assert codes.dtype == np.uint8
        assert codes.shape == (inputs, -(-outputs // 2))
        assert f"{product.name}_quantized" not in stored
    assert inspect_graph(path).parameters == pytest.approx(inspect_graph(graphs["plain"]).parameters, rel=0.2)


def test_gptq_costs_less_than_the_nearest_levels(graphs: dict[str, Path], feeds: Feeds) -> None:
    model = onnx.load(str(graphs["plain"]))
    products = [product for product in constant_products(model) if product.weight.size >= 64]
    moments = input_moments(model, [product.read for product in products], feeds)
    levels = integer_levels(16).astype(float)
    costs = []
    for product in products:
        weight, seen = product.weight.astype(float), moments[product.read]
        pair = (rounded(weight, levels, seen, 0.01), rounded(weight, levels, None, 0.01))
        costs.append([relative_cost(weight, levels[codes] * scales, seen) for codes, scales in pair])
    ours, nearest = np.mean(costs, axis=0)
    assert ours < 0.6 * nearest


def test_moments_are_those_of_the_tokens_without_padding(graphs: dict[str, Path], feeds: Feeds) -> None:
    """Against a run by hand: the first product reads the embeddings' normalization."""
    import onnxruntime

    model = onnx.load(str(graphs["plain"]))
    name = constant_products(model)[0].read
    found = input_moments(model, [name], feeds)[name]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = [
        value
        for feed in feeds
        for values, mask in zip(session.run([name], dict(feed))[0], feed["attention_mask"], strict=True)
        for value in values[: mask.sum()]
    ]
    assert np.allclose(found, np.stack(rows).T @ np.stack(rows) / len(rows), atol=1e-5)


def test_answers_hold_on_processors_whose_8_bit_products_overflow(
    graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    """Weights have 7 bits, whether or not the int8 ones that they replace had; exact arithmetic takes the graph too."""
    from pocketformer.runtime.manifest import SessionSettings
    from pocketformer.targets.saturation import count_clipped

    config = DynamicConfig(reduce_range=False, packed=EVERY)
    path = quantize_dynamic(graphs["fused"], tmp_path / "q.onnx", config, feeds).output
    assert np.abs(numpy_helper.to_array(table_of(path))).max() == 63
    assert count_clipped(path, feeds, SessionSettings(intra_op_threads=1)) == 0


def table_of(path: Path) -> onnx.TensorProto:
    return next(i for i in onnx.load(str(path)).graph.initializer if i.name == "packed_weights_table")


def test_what_cannot_be_packed_is_refused(graphs: dict[str, Path], feeds: Feeds, tmp_path: Path) -> None:
    output = tmp_path / "q.onnx"
    with pytest.raises(InputError, match="calibration"):
        quantize_dynamic(graphs["plain"], output, DynamicConfig(packed=EVERY))
    with pytest.raises(InputError, match="scale for each output"):
        quantize_dynamic(graphs["plain"], output, DynamicConfig(packed=EVERY, per_channel=False), feeds)
    with pytest.raises(ModelError, match="no int8 weights"):
        quantize_dynamic(
            graphs["plain"], output, DynamicConfig(packed=PackedWeightsConfig(smallest=10**9)), feeds
        )
