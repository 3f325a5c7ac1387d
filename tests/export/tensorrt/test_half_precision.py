"""Small graphs in which one rule of the float16 rewrite is at work."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pocketformer.export.tensorrt.half_precision import LARGEST_MASK, to_half_precision
from pocketformer.runtime.errors import ExportError


def graph(nodes: list[Any], constants: dict[str, Any] | None = None, outputs: str = "y") -> Any:
    """A model of these nodes from the float input ``x`` and the int64 input ``i`` to the float ``outputs``."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4]),
                helper.make_tensor_value_info("i", TensorProto.INT64, ["batch", 4]),
            ],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "width"])
                for name in outputs.split()
            ],
            [numpy_helper.from_array(np.asarray(v), name) for name, v in (constants or {}).items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )


def run(model: Any) -> Any:
    import onnxruntime as ort

    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x": np.float32([[1, -2, 3, 400]]), "i": np.int64([[0, 1, 2, 3]])}
    return session.run(None, {item.name: feeds[item.name] for item in session.get_inputs()})


def types(model: Any) -> dict[str, int]:
    """Element type of the first output by the node's name."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    kinds = {i.name: i.type.tensor_type.elem_type for i in (*inferred.value_info, *inferred.output)}
    return {node.name: kinds[node.output[0]] for node in model.graph.node}


def test_the_outputs_stay_single_and_the_work_is_half() -> None:
    model = graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
            helper.make_node("Softmax", ["p"], ["s"], name="softmax"),
            helper.make_node("Add", ["s", "p"], ["y"], name="sum"),
        ],
        {"w": np.eye(4, dtype=np.float32) / 100},
    )
    before = run(model)
    done = to_half_precision(model)
    np.testing.assert_allclose(run(model)[0], before[0], atol=5e-3)
    kinds = types(model)
    assert kinds["product"] == kinds["sum"] == TensorProto.FLOAT16
    assert kinds["softmax"] == TensorProto.FLOAT
    # x in, the product to the softmax, the softmax to the sum, the sum out
    assert (done.half_nodes, done.float_nodes, done.casts) == (2, 1, 4)


def test_a_norm_in_single_operators_keeps_its_square_and_its_epsilon() -> None:
    model = graph(
        [
            helper.make_node("Pow", ["x", "two"], ["square"], name="square"),
            helper.make_node("ReduceMean", ["square", "last"], ["mean"], name="mean"),
            helper.make_node("Add", ["mean", "epsilon"], ["above_zero"], name="epsilon"),
            helper.make_node("Sqrt", ["above_zero"], ["root"], name="root"),
            helper.make_node("Div", ["x", "root"], ["y"], name="divide"),
        ],
        {"two": np.float32(2), "last": np.int64([-1]), "epsilon": np.float32(1e-12)},
    )
    before = run(model)
    to_half_precision(model)
    np.testing.assert_allclose(run(model)[0], before[0], atol=2e-3)
    kinds = types(model)
    assert {kinds[name] for name in ("square", "mean", "epsilon", "root")} == {TensorProto.FLOAT}
    assert kinds["divide"] == TensorProto.FLOAT16


def test_arithmetic_on_positions_stays_exact() -> None:
    # 3000 is no float16: index 3001 would become 3000 or 3002.
    model = graph(
        [
            helper.make_node("Cast", ["i"], ["f"], name="float", to=TensorProto.FLOAT),
            helper.make_node("Add", ["f", "offset"], ["moved"], name="move"),
            helper.make_node("Cast", ["moved"], ["index"], name="integer", to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["row"], name="look-up"),
            helper.make_node("Mul", ["f", "frequency"], ["angle"], name="angle"),
            helper.make_node("Sin", ["angle"], ["wave"], name="wave"),
            helper.make_node("Mul", ["row", "wave"], ["y"], name="product"),
        ],
        {
            "offset": np.float32(3000),
            "frequency": np.float32(100.3),
            "table": np.arange(3100, dtype=np.float32) % 7,
        },
    )
    before = run(model)
    to_half_precision(model)
    np.testing.assert_allclose(run(model)[0], before[0], atol=1e-2)
    kinds = types(model)
    assert {kinds[name] for name in ("move", "angle", "wave")} == {TensorProto.FLOAT}
    assert kinds["look-up"] == kinds["product"] == TensorProto.FLOAT16


def test_masks_are_clamped_and_infinities_are_kept() -> None:
    lowest = float(np.finfo(np.float32).min)
    model = graph(
        [
            helper.make_node("Greater", ["x", "limit"], ["seen"], name="seen"),
            helper.make_node("Where", ["seen", "zero", "lowest"], ["first"], name="mask"),
            helper.make_node("Shape", ["x"], ["shape"], name="shape"),
            helper.make_node(
                "ConstantOfShape",
                ["shape"],
                ["second"],
                name="full",
                value=helper.make_tensor("v", TensorProto.FLOAT, [1], [lowest]),
            ),
            helper.make_node("Add", ["first", "second"], ["y"], name="sum"),
            helper.make_node("Where", ["seen", "zero", "infinite"], ["z"], name="hard"),
        ],
        {
            "limit": np.float32(2),
            "zero": np.float32(0),
            "lowest": np.float32(lowest),
            "infinite": np.float32(-np.inf),
        },
        outputs="y z",
    )
    done = to_half_precision(model)
    assert done.clamped == 2
    soft, hard = run(model)
    np.testing.assert_array_equal(
        soft, [[-2 * LARGEST_MASK, -2 * LARGEST_MASK, -LARGEST_MASK, -LARGEST_MASK]]
    )
    np.testing.assert_array_equal(hard, [[-np.inf, -np.inf, 0, 0]])


def test_a_large_factor_that_is_no_mask_stays_single() -> None:
    model = graph([helper.make_node("Div", ["x", "large"], ["y"], name="divide")], {"large": np.float32(1e6)})
    before = run(model)
    to_half_precision(model)
    np.testing.assert_array_equal(run(model)[0], before[0])


def test_tiny_scales_keep_their_pair_single() -> None:
    def pair(scale: float) -> Any:
        return graph(
            [
                helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
                helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="dq"),
            ],
            {"scale": np.float32(scale), "zero": np.int8(0)},
        )

    for scale, kept in ((0.05, False), (1e-7, True)):
        model = pair(scale)
        model.opset_import[0].version = 19
        to_half_precision(model)
        kind = next(item.data_type for item in model.graph.initializer if item.name.startswith("scale"))
        assert (kind == TensorProto.FLOAT) is kept
        assert run(model)[0].dtype == np.float32


def test_what_a_branch_captures_stays_single() -> None:
    branch = helper.make_graph(
        [helper.make_node("Add", ["inner", "inner"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", "width"])],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["same"])],
        "other",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["batch", "width"])],
    )
    model = graph(
        [
            helper.make_node("Mul", ["x", "half"], ["inner"], name="inner"),
            helper.make_node("ReduceMax", ["i"], ["most"], name="most", keepdims=0),
            helper.make_node("Greater", ["most", "limit"], ["long"], name="long"),
            helper.make_node("If", ["long"], ["y"], name="if", then_branch=branch, else_branch=other),
        ],
        {"half": np.float32(0.5), "limit": np.int64(1)},
    )
    before = run(model)
    to_half_precision(model)
    np.testing.assert_array_equal(run(model)[0], before[0])


def test_a_tensor_of_unknown_type_is_named() -> None:
    model = graph(
        [helper.make_node("Frobnicate", ["x"], ["t"], name="odd"), helper.make_node("Relu", ["t"], ["y"])]
    )
    with pytest.raises(ExportError, match=r"type of t, which node odd \(Frobnicate\)"):
        to_half_precision(model)
