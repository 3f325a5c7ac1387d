from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pocketformer.compress.quantize.codebook_core import quantize_with_codebook
from pocketformer.compress.quantize.config import DynamicConfig, EmbeddingsConfig
from pocketformer.compress.quantize.embeddings import quantize_embeddings
from pocketformer.compress.quantize.embeddings_core import quantize_table
from pocketformer.compress.quantize.graph_state import save
from pocketformer.compress.quantize.onnxruntime_dynamic import quantize_dynamic
from pocketformer.compress.quantize.unfuse import unfuse_embeddings
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import AlreadyQuantizedError, InputError, ModelError

Feeds = list[Mapping[str, Any]]
WORD = "word_embeddings.weight"


def with_table(graph: Path, output: Path, config: EmbeddingsConfig) -> Path:
    """The reference: the fp32 graph with every table replaced by what its codes stand for."""
    model = onnx.load(str(graph))
    for item in model.graph.initializer:
        if "_embeddings.weight" in item.name:
            table = numpy_helper.to_array(item).copy()
            if table.nbytes < config.smallest_bytes:
                continue
            bits = config.bits if WORD in item.name else 8
            back = quantize_table(
                table,
                bits=bits,
                block=config.block_size or table.shape[1],
                symmetric=config.symmetric,
                grid=config.grid,
                scale_dtype=np.float16 if config.half_scales else np.float32,
            ).dequantize()
            if config.half_scales and config.block_size is not None:
                back = back.astype(np.float16).astype(np.float32)  # the operator gives what scales are
            item.CopyFrom(numpy_helper.from_array(back, item.name))
    onnx.save(model, str(output))
    return output


@pytest.mark.parametrize("kind", ["plain", "fused"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize(("bits", "block"), [(8, None), (8, 32), (4, 16), (4, 32), (4, 128)])
def test_the_graph_computes_with_exactly_the_dequantized_tables(
    kind: str,
    symmetric: bool,
    half: bool,
    bits: Any,
    block: int | None,
    graphs: dict[str, Path],
    feeds: Feeds,
    tmp_path: Path,
) -> None:
    config = EmbeddingsConfig(
        bits=bits, block_size=block, symmetric=symmetric, half_scales=half, smallest_bytes=1024
    )
    result = quantize_embeddings(graphs[kind], tmp_path / "q.onnx", config)
    assert result.metrics["tables"] == 2
    assert 0 < result.metrics["relative_error"] < (0.02 if bits == 8 else 0.2)
    reference = OnnxRuntimeEngine(with_table(graphs["plain"], tmp_path / "r.onnx", config)).run(feeds[0])
    actual = OnnxRuntimeEngine(result.output).run(feeds[0])
    np.testing.assert_allclose(actual, reference, atol=2e-4 if half and block else 2e-5)
    model = onnx.load(str(result.output))
    assert max(item.version for item in model.opset_import if item.domain == "") <= 20
    assert model.ir_version <= 10
    assert {n.domain for n in model.graph.node} <= {"", "com.microsoft"}
    if kind == "plain" and block is None:
        assert {item.domain for item in model.opset_import} == {""}


@pytest.mark.parametrize("bits", [8, 4])
def test_tables_before_products_and_products_before_tables_are_the_same(
    bits: Any, graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    config = EmbeddingsConfig(bits=bits, block_size=32 if bits == 4 else None, smallest_bytes=1024)
    first = quantize_embeddings(graphs["fused"], tmp_path / "e.onnx", config).output
    first = quantize_dynamic(first, tmp_path / "ed.onnx", DynamicConfig()).output
    second = quantize_dynamic(graphs["fused"], tmp_path / "d.onnx", DynamicConfig()).output
    second = quantize_embeddings(second, tmp_path / "de.onnx", config).output
    np.testing.assert_allclose(
        OnnxRuntimeEngine(first).run(feeds[0]), OnnxRuntimeEngine(second).run(feeds[0]), atol=1e-6
    )


@pytest.mark.parametrize("any_mask", [True, False])
def test_taking_embed_layer_normalization_apart_is_exact(
    any_mask: bool, graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    from pocketformer.export.fuse import fuse_for_onnxruntime

    fused = fuse_for_onnxruntime(
        graphs["plain"], tmp_path / "f.onnx", heads=[3, 4, 1], hidden_size=32, any_mask=any_mask
    ).output
    model = onnx.load(str(fused))
    assert unfuse_embeddings(model) == 1
    assert not [node for node in model.graph.node if node.op_type == "EmbedLayerNormalization"]
    apart = save(model, tmp_path / "a.onnx")
    for feed in feeds[:3]:
        np.testing.assert_allclose(
            OnnxRuntimeEngine(apart).run(feed), OnnxRuntimeEngine(graphs["plain"]).run(feed), atol=2e-5
        )


def test_four_bits_halve_the_word_table(tmp_path: Path) -> None:
    """On a table large enough to matter, the file holds what the arithmetic says."""
    from onnx import TensorProto, helper

    table = np.random.default_rng(0).standard_normal((2000, 256)).astype(np.float32)
    node = helper.make_node("Gather", ["t", "input_ids"], ["o"])
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, ["batch", "sequence", 256])
    graph = helper.make_graph([node], "g", [ids], [out], [numpy_helper.from_array(table, "t")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(tmp_path / "m.onnx"))
    four = EmbeddingsConfig(bits=4, block_size=128, symmetric=False, half_scales=True)
    sizes = {
        bits: quantize_embeddings(tmp_path / "m.onnx", tmp_path / "q.onnx", config).metrics["table_bytes"]
        for bits, config in ((8, EmbeddingsConfig()), (4, four))
    }
    assert sizes == {8: 2000 * 256 + 2000 * 4, 4: 2000 * 128 + 2000 * 2 * 2 + 2000}


def test_doing_it_twice_is_refused(graphs: dict[str, Path], tmp_path: Path) -> None:
    config = EmbeddingsConfig(bits=4, block_size=32, smallest_bytes=1024)
    once = quantize_embeddings(graphs["plain"], tmp_path / "q.onnx", config).output
    with pytest.raises(AlreadyQuantizedError, match="GatherBlockQuantized"):
        quantize_embeddings(once, tmp_path / "qq.onnx", config)
    rows = quantize_embeddings(graphs["plain"], tmp_path / "q.onnx", EmbeddingsConfig(smallest_bytes=1024))
    with pytest.raises(ModelError, match="looks up no embedding table"):
        quantize_embeddings(rows.output, tmp_path / "qq.onnx", EmbeddingsConfig(smallest_bytes=1024))


def test_settings_that_no_operator_takes_are_refused(graphs: dict[str, Path], tmp_path: Path) -> None:
    for config, words in (
        (EmbeddingsConfig(bits=4), "need a block size"),
        (EmbeddingsConfig(block_size=48), "block_size is 48"),
        (EmbeddingsConfig(block_size=8), "block_size is 8"),
    ):
        with pytest.raises(InputError, match=words):
            quantize_embeddings(graphs["plain"], tmp_path / "q.onnx", config)


@pytest.mark.parametrize("kind", ["plain", "fused"])
@pytest.mark.parametrize("group", [2, 3])
def test_a_codebook_computes_with_exactly_its_dequantized_table(
    kind: str, group: int, graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    config = EmbeddingsConfig(codebook_group=group, grid=1, smallest_bytes=1024)
    result = quantize_embeddings(graphs[kind], tmp_path / "q.onnx", config)
    assert 0 < result.metrics["relative_error"] < 0.2
    model = onnx.load(
        str(with_table(graphs["plain"], tmp_path / "r.onnx", EmbeddingsConfig(grid=1, smallest_bytes=1024)))
    )
    fp32 = {item.name: item for item in onnx.load(str(graphs["plain"])).graph.initializer}
    item = next(item for item in model.graph.initializer if WORD in item.name)
    table = numpy_helper.to_array(fp32[item.name])
    back = quantize_with_codebook(table, group=group).dequantize()
    item.CopyFrom(numpy_helper.from_array(back, item.name))
    onnx.save(model, str(tmp_path / "r.onnx"))
    for feed in feeds[:2]:
        expected = OnnxRuntimeEngine(tmp_path / "r.onnx").run(feed)
        np.testing.assert_allclose(OnnxRuntimeEngine(result.output).run(feed), expected, atol=2e-5)


def test_a_table_of_which_the_first_rows_are_read_expands_when_it_is_loaded(tmp_path: Path) -> None:
    """Position embeddings: int8 in the file, float32 in the session, nothing left to do in a call."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    words, places = (rng.standard_normal((rows, 64)).astype(np.float32) for rows in (500, 96))
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["w"]),
        helper.make_node("Shape", ["input_ids"], ["length"], start=1, end=2),
        helper.make_node("Slice", ["places", "zero", "length", "zero"], ["p"]),
        helper.make_node("Add", ["w", "p"], ["o"]),
    ]
    tensors = {"words": words, "places": places, "zero": np.array([0])}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, ["batch", "sequence", 64])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8),
        tmp_path / "m.onnx",
    )
    result = quantize_embeddings(
        tmp_path / "m.onnx", tmp_path / "q.onnx", EmbeddingsConfig(smallest_bytes=1024)
    )
    assert result.metrics["tables"] == 2
    assert result.metrics["table_bytes"] == 500 * 64 + 500 * 4 + 96 * 64 + 96 * 4
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    ort.InferenceSession(result.output, options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(str(tmp_path / "loaded.onnx"))
    assert [node.op_type for node in loaded.graph.node].count("Mul") == 1  # the words' own
    ids = {"input_ids": rng.integers(0, 500, (2, 30))}
    before, after = (OnnxRuntimeEngine(tmp_path / name).run(ids) for name in ("m.onnx", "q.onnx"))
    assert 0 < np.abs(before - after).max() < 0.05
