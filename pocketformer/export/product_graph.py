"""Graphs of one matrix product with constant weights: what a processor's peak rate is measured with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketformer.export.graph_file import save_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OPSET = 17


def write_product(path: Path, *, inner: int, columns: int, precision: Literal["fp32", "int8"]) -> Path:
    """Write ``y = a @ b`` with ``a`` [rows, ``inner``] as its input and constant ``b`` [``inner``, ``columns``].

    "fp32" is a MatMul of float32; "int8" a MatMulInteger of uint8 with int8 weights of 7 bits, which no processor
    clips, into int32. Both keep their weights as onnxruntime packs them when it loads the graph.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights: NDArray[Any]
    if precision == "fp32":
        weights = rng.standard_normal((inner, columns), dtype=np.float32)
        kinds, operator = (TensorProto.FLOAT, TensorProto.FLOAT), "MatMul"
    else:
        weights = rng.integers(-64, 64, size=(inner, columns), dtype=np.int8)
        kinds, operator = (TensorProto.UINT8, TensorProto.INT32), "MatMulInteger"
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["y"])],
        "product",
        [helper.make_tensor_value_info("a", kinds[0], ["rows", inner])],
        [helper.make_tensor_value_info("y", kinds[1], ["rows", columns])],
        [numpy_helper.from_array(weights, "b")],
    )
    return save_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)]), path)
