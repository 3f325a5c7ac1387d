"""Tiny graphs in every precision, made once."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pocketformer.export.graph_file import load_graph, random_feeds

# The architectures and the bad graphs are those of the evidence, whose folder is put on the path as running it does.
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))

Feeds = list[Mapping[str, Any]]


@pytest.fixture(scope="session")
def feeds(tiny_graph: Path) -> Feeds:
    """Padded random ids of several shapes."""
    graph = load_graph(tiny_graph)
    shapes = ((4, 12), (3, 9), (4, 30), (1, 5), (2, 17), (4, 8))
    return [random_feeds(graph, *shape, seed=seed) for seed, shape in enumerate(shapes)]


@pytest.fixture(scope="session")
def symmetric_graph(tiny_graph: Path, feeds: Feeds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with symmetric int8 products."""
    from pocketformer.compress.quantize.candidates import TENSORRT_CANDIDATE
    from pocketformer.compress.quantize.portfolio import quantize_candidate

    output = tmp_path_factory.mktemp("symmetric") / "int8.onnx"
    return quantize_candidate(
        TENSORRT_CANDIDATE, graphs={"plain": tiny_graph}, output=output, calibration=feeds
    ).output


@pytest.fixture(scope="session")
def typed_graphs(
    tiny_graph: Path, symmetric_graph: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The typed form of the tiny model by precision."""
    from pocketformer.export.tensorrt.typed_graph import write_typed_graph
    from pocketformer.runtime.tensorrt.config import PRECISIONS

    folder = tmp_path_factory.mktemp("typed")
    return {
        precision: write_typed_graph(
            symmetric_graph if precision.startswith("int8") else tiny_graph,
            folder / f"{precision}.onnx",
            fp16=precision.endswith("fp16"),
        ).output
        for precision in PRECISIONS
    }


@pytest.fixture(scope="session")
def wide_graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four products of 1024 x 1024, in which weights outweigh the kernels that every engine carries."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from pocketformer.compress.quantize.candidates import TENSORRT_CANDIDATE
    from pocketformer.compress.quantize.portfolio import quantize_candidate
    from pocketformer.export.tensorrt.typed_graph import write_typed_graph

    folder = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(0)
    width = 1024
    constants = {"table": rng.normal(size=(50, width)) / 8}
    constants |= {f"w{i}": rng.normal(size=(width, width)) / 32 for i in range(4)}
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["x0"], name="look-up")]
    for i in range(4):
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"p{i}"], name=f"product{i}"))
        nodes.append(helper.make_node("Tanh", [f"p{i}"], [f"x{i + 1}"], name=f"tanh{i}"))
    nodes[-1].output[0] = "logits"
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "wide",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", width])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save_model(model, str(folder / "plain.onnx"))
    int8 = quantize_candidate(
        TENSORRT_CANDIDATE,
        graphs={"plain": folder / "plain.onnx"},
        output=folder / "q.onnx",
        calibration=[{"input_ids": rng.integers(0, 50, (2, 8))}],
    ).output
    return {
        name: write_typed_graph(source, folder / f"{name}.onnx", fp16=name == "fp16").output
        for name, source in (("fp32", folder / "plain.onnx"), ("fp16", folder / "plain.onnx"), ("int8", int8))
    }
