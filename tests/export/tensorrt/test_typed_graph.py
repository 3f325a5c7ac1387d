from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.export.graph_file import load_graph
from pocketformer.export.inspect_graph import inspect_graph
from pocketformer.export.tensorrt.half_precision import LARGEST_MASK
from pocketformer.export.tensorrt.typed_graph import agreement, graph_precision, write_typed_graph
from pocketformer.runtime.errors import ExportError, InputError, ModelError
from pocketformer.runtime.tensorrt.config import PRECISIONS

Feeds = list[Mapping[str, Any]]
# Largest differences of logits that are about 1 in size: float16 holds 11 bits, int8 seven.
TOLERANCES = {"fp32": 0.0, "fp16": 0.002, "int8": 0.1, "int8-fp16": 0.1}


def types(path: Path) -> dict[str, int]:
    """Element type of each tensor of the graph."""
    model = onnx.shape_inference.infer_shapes(load_graph(path), check_type=True, strict_mode=True)
    known = {item.name: item.data_type for item in model.graph.initializer}
    for item in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        known[item.name] = item.type.tensor_type.elem_type
    return known


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_typed_graph_answers_as_the_fp32_graph(
    precision: str, tiny_graph: Path, typed_graphs: dict[str, Path], feeds: Feeds
) -> None:
    near = agreement(tiny_graph, typed_graphs[precision], feeds)
    assert near.rows == sum(len(feed["input_ids"]) for feed in feeds)
    assert near.max_abs_difference <= TOLERANCES[precision], near
    assert near.same_label >= (1.0 if precision in ("fp32", "fp16") else 0.75)
    assert graph_precision(typed_graphs[precision]) == precision


@pytest.mark.parametrize("precision", PRECISIONS)
def test_inputs_and_outputs_keep_names_types_and_axes(
    precision: str, tiny_graph: Path, typed_graphs: dict[str, Path]
) -> None:
    before, after = load_graph(tiny_graph).graph, load_graph(typed_graphs[precision]).graph
    assert [item.SerializeToString() for item in after.input] == [
        item.SerializeToString() for item in before.input
    ]
    assert after.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert after.output[0] == before.output[0]


@pytest.mark.parametrize("precision", ["fp16", "int8-fp16"])
def test_products_are_half_and_what_overflows_is_single(
    precision: str, typed_graphs: dict[str, Path]
) -> None:
    path = typed_graphs[precision]
    kinds = types(path)
    seen: dict[str, Counter[int]] = {}
    for node in load_graph(path).graph.node:
        seen.setdefault(node.op_type, Counter()).update([kinds[node.output[0]]])
    assert set(seen["MatMul"]) == {TensorProto.FLOAT16}
    assert set(seen["Softmax"]) == {TensorProto.FLOAT}
    assert set(seen["LayerNormalization"]) == {TensorProto.FLOAT}
    half = [item for item in load_graph(path).graph.initializer if item.data_type == TensorProto.FLOAT]
    assert sum(int(np.prod(item.dims)) for item in half) <= 8 * 2 * 32, (
        "only the norms' weights stay in float32"
    )


def test_weights_take_half_the_bytes(typed_graphs: dict[str, Path]) -> None:
    size = {p: sum(inspect_graph(path).initializer_bytes.values()) for p, path in typed_graphs.items()}
    assert size["fp16"] < 0.55 * size["fp32"]
    assert size["int8"] < 0.4 * size["fp32"]
    assert size["int8-fp16"] < size["int8"]


def test_quantization_keeps_its_integers_and_gets_half_scales(
    symmetric_graph: Path, typed_graphs: dict[str, Path]
) -> None:
    before, after = load_graph(symmetric_graph), load_graph(typed_graphs["int8-fp16"])
    assert after.opset_import[0].version == 19
    integers = [
        {item.name: item.raw_data for item in model.graph.initializer if item.data_type == TensorProto.INT8}
        for model in (before, after)
    ]
    assert integers[0] == integers[1]
    kinds = types(typed_graphs["int8-fp16"])
    pairs = [node for node in after.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {kinds[node.input[1]] for node in pairs} == {TensorProto.FLOAT16}


def test_mask_constants_are_clamped_to_half_of_the_range(typed_graphs: dict[str, Path]) -> None:
    values = [numpy_helper.to_array(item) for item in load_graph(typed_graphs["fp16"]).graph.initializer]
    floats = [value for value in values if value.dtype == np.float16]
    assert all(np.isfinite(value).all() for value in floats)
    assert min(float(value.min()) for value in floats) == -LARGEST_MASK


def test_a_row_that_is_masked_throughout_stays_a_number(
    tiny_graph: Path, typed_graphs: dict[str, Path], feeds: Feeds
) -> None:
    feed = dict(feeds[0]) | {"attention_mask": np.zeros_like(feeds[0]["attention_mask"])}
    # float16 has steps of 16 beside the mask's constant: the weights of such a row, which mean nothing, move.
    assert agreement(tiny_graph, typed_graphs["fp16"], [feed]).max_abs_difference < 0.1


def test_writing_twice_gives_the_same_bytes(tiny_graph: Path, tmp_path: Path) -> None:
    first = write_typed_graph(tiny_graph, tmp_path / "1.onnx", fp16=True)
    second = write_typed_graph(tiny_graph, tmp_path / "2.onnx", fp16=True)
    assert first.output.read_bytes() == second.output.read_bytes()
    assert first.metrics["half_nodes"] > first.metrics["float_nodes"] > 0
    assert first.metrics["clamped_constants"] >= 1


def test_what_cannot_be_typed_is_refused(
    tiny_graph: Path, typed_graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    output = tmp_path / "t.onnx"
    fused = fuse_for_onnxruntime(tiny_graph, tmp_path / "f.onnx", heads=[4, 4, 4], hidden_size=32).output
    with pytest.raises(ExportError, match=r"com\.microsoft\.") as caught:
        write_typed_graph(fused, output, fp16=True)
    assert "before fusing" in str(caught.value)
    with pytest.raises(ExportError, match="float16 weights already"):
        write_typed_graph(typed_graphs["fp16"], output, fp16=True)
    with pytest.raises(ModelError, match="no ONNX file"):
        write_typed_graph(tmp_path / "none.onnx", output, fp16=False)
    with pytest.raises(InputError, match="there are none"):
        agreement(tiny_graph, tiny_graph, [])
    assert not output.exists()
