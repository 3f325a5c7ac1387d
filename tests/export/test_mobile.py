"""What accelerators on phones could take: of a plain graph, one with Q/DQ and one with dynamic int8, in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.export.mobile import MobileReport, mobile_usability
from pocketformer.runtime.errors import ModelError


def graph_of(nodes: list[Any], constants: dict[str, Any], path: Path, *, batch: Any = 1) -> Path:
    """A graph from ``x`` [batch, 4] to ``y``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


@pytest.fixture(scope="module")
def quantized(tiny_graph: Path, tmp_path_factory: Any) -> dict[str, Path]:
    from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

    from pocketformer.export.graph_file import load_graph, random_feeds

    folder: Path = tmp_path_factory.mktemp("mobile")

    class Feeds(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [dict(random_feeds(load_graph(tiny_graph), 2, 8, seed=seed)) for seed in range(2)]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    quantize_static(str(tiny_graph), str(folder / "qdq.onnx"), Feeds())
    quantize_dynamic(str(tiny_graph), str(folder / "dynamic.onnx"))
    return {"fp32": tiny_graph, "qdq": folder / "qdq.onnx", "dynamic": folder / "dynamic.onnx"}


@pytest.fixture(scope="module")
def reports(quantized: dict[str, Path]) -> dict[str, MobileReport]:
    return {name: mobile_usability(path) for name, path in quantized.items()}


def provider(report: MobileReport, name: str) -> Any:
    return next(found for found in report.providers if found.name == name)


def test_all_four_are_told_of_every_graph(reports: dict[str, MobileReport]) -> None:
    for report in reports.values():
        names = [found.name for found in report.providers]
        assert names == ["NNAPI", "CoreML, NeuralNetwork", "CoreML, MLProgram", "XNNPACK"]
        assert set(report.dynamic_inputs) == {"input_ids", "attention_mask", "token_type_ids"}
        for found in report.providers:
            assert 0 <= found.as_is.nodes <= found.fixed.nodes <= report.nodes
            assert found.as_is.partitions <= max(1, found.as_is.nodes)
        text = "\n".join(report.lines())
        assert "only the phone can tell" in text
        assert not any(word in text for word in (" ms", "faster", "latency", "speedup"))


def test_shapes_are_what_keeps_nnapi_from_the_plain_graph(reports: dict[str, MobileReport]) -> None:
    nnapi = provider(reports["fp32"], "NNAPI")
    assert nnapi.as_is.products == 0
    assert nnapi.fixed.products == reports["fp32"].products > 0
    assert nnapi.refused["LayerNormalization"] > 0
    text = "\n".join(reports["fp32"].lines())
    assert "Shapes are not fixed: input_ids" in text
    assert "It does not take" in text
    assert "LayerNormalization" in text


def test_xnnpack_takes_float_products_alone(reports: dict[str, MobileReport]) -> None:
    plain = provider(reports["fp32"], "XNNPACK")
    # Queries by keys and weights by values multiply two computed tensors, in each of three layers.
    assert plain.fixed.products == reports["fp32"].products - 6
    assert plain.refused["MatMul"] == 6
    for name in ("qdq", "dynamic"):
        found = provider(reports[name], "XNNPACK")
        assert found.fixed.products < plain.fixed.products
    assert provider(reports["dynamic"], "XNNPACK").advice == "not worth trying"
    assert provider(reports["dynamic"], "NNAPI").refused["MatMulInteger"] > 0


def test_a_graph_that_fits_is_worth_trying(tmp_path: Path) -> None:
    from onnx import helper

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Softmax", ["r"], ["y"]),
    ]
    weights = {"w": np.ones((4, 3), dtype=np.float32)}
    fits = mobile_usability(graph_of(nodes, weights, tmp_path / "fits.onnx"))
    nnapi = provider(fits, "NNAPI")
    assert (nnapi.as_is, nnapi.advice) == (nnapi.fixed, "worth trying")
    assert (nnapi.as_is.nodes, nnapi.as_is.partitions, nnapi.as_is.products) == (3, 1, 1)
    assert "takes 3 of 3 nodes in one piece, 1 of 1 products" in "\n".join(fits.lines())
    assert fits.dynamic_inputs == ()
    dynamic = mobile_usability(graph_of(nodes, weights, tmp_path / "dynamic.onnx", batch="n"))
    assert provider(dynamic, "NNAPI").as_is.nodes < 3
    assert provider(dynamic, "NNAPI").advice == "worth trying"
    assert "make_dynamic_shape_fixed" in "\n".join(dynamic.lines())


def test_inspect_says_it_of_files_and_bundles(
    cli_json: Any, small_bundle: Path, openvino_bundle: Path, tmp_path: Path
) -> None:
    code, facts = cli_json("inspect", small_bundle, "--mobile")
    assert code == 0
    assert facts["mobile"]["providers"][0]["name"] == "NNAPI"
    assert "mobile" not in cli_json("inspect", small_bundle / "model.onnx")[1]
    assert cli_json("inspect", openvino_bundle, "--mobile")[0] == 2
    (tmp_path / "no.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError):
        mobile_usability(tmp_path / "no.onnx")
