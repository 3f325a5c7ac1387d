from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pocketformer.export.tensorrt.sparsity import count_groups, find_sparsity, sparsity_note
from pocketformer.export.tensorrt.typed_graph import write_typed_graph
from pocketformer.runtime.tensorrt import build
from pocketformer.runtime.tensorrt.config import EngineConfig, Profile
from pocketformer.runtime.tensorrt.library import Library


def pruned(weight: Any, axis: int) -> Any:
    """The weight with the two smallest of every four along ``axis`` set to zero."""
    along = np.moveaxis(weight.copy(), axis, -1)
    fours = along.reshape(-1, 4)
    for four in fours:
        four[np.argsort(np.abs(four))[:2]] = 0
    return np.ascontiguousarray(np.moveaxis(fours.reshape(along.shape), -1, axis))


@pytest.mark.parametrize(("shape", "axis"), [((8, 5), 0), ((5, 12), 1), ((3, 8, 2, 2), 1)])
def test_groups_lie_along_the_axis(shape: tuple[int, ...], axis: int) -> None:
    weight = np.random.default_rng(0).normal(size=shape)
    groups = weight.size // 4
    assert count_groups(weight, axis) == (groups, 0)
    sparse = pruned(weight, axis)
    assert count_groups(sparse, axis) == (groups, groups)
    one = np.argwhere(sparse == 0)[0]
    sparse[tuple(one)] = 1.0  # three numbers in one group
    assert count_groups(sparse, axis) == (groups, groups - 1)
    assert count_groups(np.zeros((6, 4)), 0) == (0, 0)


def write(path: Path, nodes: list[Any], constants: dict[str, Any], inputs: dict[str, Any]) -> Path:
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "products",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
            [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save_model(model, str(path))
    return path


def test_each_kind_of_product_sums_over_its_own_axis(tmp_path: Path) -> None:
    square = pruned(np.random.default_rng(0).normal(size=(8, 8)), 0)  # 2:4 down, and not across
    assert count_groups(square, 1)[1] < count_groups(square, 1)[0]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["right"], name="right"),
        helper.make_node("MatMul", ["w", "right"], ["left"], name="left"),
        helper.make_node("Gemm", ["left", "w"], ["plain"], name="gemm"),
        helper.make_node("Gemm", ["plain", "w"], ["turned"], name="gemm-turned", transB=1),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0], name="transpose"),
        helper.make_node("MatMul", ["turned", "wt"], ["through"], name="transposed"),
        helper.make_node("MatMul", ["through", "left"], ["y"], name="activations"),
    ]
    found = find_sparsity(write(tmp_path / "m.onnx", nodes, {"w": square}, {"x": [8, 8]}))
    assert {product.node: product.is_sparse for product in found} == {
        "right": True,
        "left": False,
        "gemm": True,
        "gemm-turned": False,
        "transposed": False,
    }
    assert all(product.groups == 16 for product in found)


def test_a_convolution_sums_over_its_channels(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(2, 4, 3, 3))
    for weight, sparse in ((kernel, False), (pruned(kernel, 1), True)):
        node = helper.make_node("Conv", ["x", "w"], ["y"], name="patches")
        (found,) = find_sparsity(write(tmp_path / "m.onnx", [node], {"w": weight}, {"x": [1, 4, 8, 8]}))
        assert (found.is_sparse, found.groups, found.shape) == (sparse, 18, (2, 4, 3, 3))


def test_the_typed_graphs_of_a_model_are_looked_through(
    typed_graphs: dict[str, Path], tmp_path: Path
) -> None:
    """Every linear layer is found in every precision, behind casts and Q/DQ, and none is sparse by chance."""
    found = {precision: find_sparsity(graph) for precision, graph in typed_graphs.items()}
    shapes = {precision: [product.shape for product in products] for precision, products in found.items()}
    assert len(shapes["fp32"]) == 3 * 6 + 2  # six in a layer, pooler and classifier
    assert all(other == shapes["fp32"] for other in shapes.values())
    assert not any(product.is_sparse for products in found.values() for product in products)
    assert "changes nothing" in sparsity_note(found["fp32"])
    model = onnx.load(str(typed_graphs["fp32"]))
    turned = {node.input[1] for node in model.graph.node if node.op_type == "Gemm"}
    for item in model.graph.initializer:
        if len(item.dims) == 2:
            axis = int(item.name in turned)
            weight = numpy_helper.to_array(item)
            if weight.shape[axis] % 4 == 0:
                item.CopyFrom(numpy_helper.from_array(pruned(weight, axis), item.name))
    onnx.save_model(model, str(tmp_path / "pruned.onnx"))
    half = write_typed_graph(tmp_path / "pruned.onnx", tmp_path / "half.onnx", fp16=True).output
    assert all(product.is_sparse for product in find_sparsity(half))
    assert sparsity_note(find_sparsity(half)) == "20 of 20 products with constant weights are 2:4 sparse"


@pytest.mark.parametrize("sparse", [False, True])
def test_the_builder_is_told_only_where_asked(
    sparse: bool,
    typed_graphs: dict[str, Path],
    library: Library,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[bool] = []
    set_profile = build._set_profile

    def look(builder: Any, network: Any, settings: Any, profile: Profile, graph: Path) -> None:
        told.append(settings.get_flag(library.module.BuilderFlag.SPARSE_WEIGHTS))
        set_profile(builder, network, settings, profile, graph)

    monkeypatch.setattr(build, "_set_profile", look)
    config = EngineConfig(compute_capabilities=("8.9",), sparse_weights=sparse)
    build.build_engine(typed_graphs["fp16"], tmp_path / "m.engine", config, precision="fp16", library=library)
    assert told == [sparse]
