"""Overflow of int8 products: on this processor, and on an emulated one of each kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pocketformer.runtime.manifest import SessionSettings
from pocketformer.targets.saturation import PRODUCT, count_clipped, u8s8_saturates

SETTINGS = SessionSettings(intra_op_threads=1)


def test_the_graph_is_what_it_says() -> None:
    import onnx
    from onnx import TensorProto, helper

    matrices = (("a", TensorProto.UINT8, "mk"), ("b", TensorProto.INT8, "kn"), ("y", TensorProto.INT32, "mn"))
    a, b, y = (helper.make_tensor_value_info(name, kind, list(shape)) for name, kind, shape in matrices)
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "u8s8", [a, b], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    assert onnx.load_from_string(PRODUCT) == model


def products(path: Path, weight: int) -> Path:
    """A dynamically quantized product whose weights are all ``weight``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["codes", "weights", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["y"], to=TensorProto.FLOAT),
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 16]) for name in "xy"]
    weights = numpy_helper.from_array(np.full((16, 16), weight, np.int8), "weights")
    graph = helper.make_graph(nodes, "product", shapes[:1], shapes[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_batches_that_are_clipped_are_counted(tmp_path: Path) -> None:
    # Small numbers stay below 16 bits in pairs; the first column fixes what the largest code stands for.
    small = np.full((1, 16), 0.01, np.float32)
    small[0, 0] = 1.0
    feeds = [{"x": np.ones((1, 16), np.float32)}, {"x": small}]
    assert count_clipped(products(tmp_path / "large.onnx", 127), feeds, SETTINGS) == int(
        bool(u8s8_saturates())
    )
    assert count_clipped(products(tmp_path / "reduced.onnx", 63), feeds, SETTINGS) == 0


def test_a_graph_that_cannot_be_run_exactly_is_not_judged(tmp_path: Path) -> None:
    path = products(tmp_path / "graph.onnx", 1)
    assert count_clipped(path, [{"x": np.ones((1, 8), np.float32)}], SETTINGS) is None


def test_without_onnxruntime_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert u8s8_saturates() is None


@pytest.mark.parametrize(("cpu", "saturates"), [("Haswell", True), ("Nehalem", False)])
def test_on_an_emulated_processor(cpu: str, saturates: bool) -> None:
    """AVX2 without VNNI clips; before AVX2 the kernels add in 32 bits, which no flag tells."""
    qemu = shutil.which("qemu-x86_64-static")
    if qemu is None or os.uname().machine != "x86_64":
        pytest.skip("needs x86-64 and qemu: apt-get install qemu-user-static")
    program = (
        "from pocketformer.targets.probe import probe; f = probe(); print(f['u8s8_saturates'], f['emulator'])"
    )
    done = subprocess.run(
        [qemu, "-cpu", cpu, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.split() == [str(saturates), "qemu-x86_64-static"], done.stderr
