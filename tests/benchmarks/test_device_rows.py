from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from evidence import device_rows, emulated
from evidence.products import products_of
from evidence.table import EvidenceError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    """What the rows share, with nothing made yet; ``once`` makes everything anew."""
    repository = SimpleNamespace(root=ROOT)

    def once(name: str, make: Callable[[Path], Any]) -> Any:
        (tmp_path / name).mkdir()
        return make(tmp_path / name)

    return SimpleNamespace(
        repository=repository, folder=tmp_path, once=once, say=lambda _: None, environment=dict
    )


def write_outputs(folder: Path, values: Mapping[str, Any]) -> None:
    for name in emulated.GRAPHS:
        for where in ("here", *emulated.CPUS):
            arrays = values.get(f"{where}-{name}", values[name])
            np.savez(
                folder / f"{where}-{name}.npz",
                **{f"{number}/y": np.float32([row]) for number, row in enumerate(arrays)},
            )


@pytest.fixture
def answered(runs: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the emulated processors answer these values; the rest is as it is here."""
    usual = {"fp32": [[1.0, 2.0], [3.0, 4.0]], "int8": [[1.0, 2.0], [3.0, 4.0]], "products": [[0.5], [0.0]]}

    def answer(**values: Any) -> None:
        def run(root: Path, folder: Path) -> dict[str, Any]:
            write_outputs(folder, {**usual, **{key.replace("_", "-"): v for key, v in values.items()}})
            return {"what": "a model", "texts": 2}

        monkeypatch.setattr(device_rows, "run_everywhere", run)

    return answer


def test_products_are_compared_bit_for_bit(runs: Any, answered: Any) -> None:
    answered(**{"cortex-a72-products": [[0.5], [-0.0]], "cortex-a72-int8": [[1.0, 2.0], [3.0, 4.5]]})
    measured = device_rows.int8_products(runs)
    assert measured.value == 1
    assert "cortex-a76: all" in measured.how
    assert "cortex-a72: 1 of 2 texts bit for bit, the others within 0.5" in measured.how


def test_labels_and_logits_of_the_whole_model(runs: Any, answered: Any) -> None:
    answered(**{"cortex-a76-int8": [[1.0, 2.0], [5.0, 4.0]], "cortex-a72-fp32": [[1.0, 2.0], [3.0, 4.25]]})
    assert device_rows.int8_labels(runs).value == 1
    answered(**{"cortex-a72-fp32": [[1.0, 2.0], [3.0, 4.25]]})
    runs.folder = runs.folder / "more"
    runs.once = lambda name, make: (
        (runs.folder / name).mkdir(parents=True, exist_ok=True),
        make(runs.folder / name),
    )[1]
    assert device_rows.fp32(runs).value == 0.25


def test_every_drill_is_a_test() -> None:
    assert len(device_rows.DRILLS) == 10
    for test in {test for tests in device_rows.DRILLS.values() for test in tests}:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_a_kind_counts_when_all_its_drills_pass(
    runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "def test_skipped(): pytest.skip('no server')\n"
    )
    runs.repository.root = tmp_path
    names = {"good": "good", "bad": "bad", "skipped": "skipped", "missing": "none"}
    drills = {kind: (f"test_some.py::test_{name}",) for kind, name in names.items() if kind != "missing"}
    monkeypatch.setattr(device_rows, "DRILLS", drills)
    measured = device_rows.fault_drills(runs)
    assert measured.value == 1
    assert "Not right: bad (test_bad failed); skipped (test_skipped skipped)" in measured.how
    monkeypatch.setattr(device_rows, "DRILLS", {"missing": ("test_none.py::test_none",)})
    assert device_rows.fault_drills(runs).value == 0


def test_the_corpus_is_understood_and_damage_does_no_harm(
    runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_rows, "_FUZZED", 200)
    assert device_rows.tegrastats(runs).value == 100
    assert device_rows.fuzzed_tegrastats(runs).value == 0
    monkeypatch.setattr(device_rows, "parse_tegrastats", lambda line: 1 / (len(line) % 2))
    assert 0 < device_rows.fuzzed_tegrastats(runs).value < 200
    runs.repository.root = tmp_path
    with pytest.raises(EvidenceError, match="no lines"):
        device_rows.tegrastats(runs)


def test_a_line_with_a_word_left_over_does_not_count(runs: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tests/targets/tegrastats"
    folder.mkdir(parents=True)
    line = "RAM 1/2MB (lfb 1x4MB) CPU [1%@2] EMC_FREQ 0%"
    (folder / "board.txt").write_text(f"# source\n{line}\n{line} what?\n")
    runs.repository.root = tmp_path
    assert device_rows.tegrastats(runs).value == 50


def test_products_stand_for_themselves(tmp_path: Path) -> None:
    """Given what the whole graph feeds them, they give what they give there."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    from pocketformer.compress.quantize.config import StaticConfig
    from pocketformer.compress.quantize.onnxruntime_static import quantize_static

    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((16, 16)).astype(np.float32) for name in ("v", "w")}
    weights["b"] = rng.standard_normal(16).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("Gemm", ["t", "w", "b"], ["y"]),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 16]) for name in "xy"]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "two", tensors[:1], tensors[1:], constants)
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    feeds = [{"x": rng.standard_normal((4, 16)).astype(np.float32)} for _ in range(4)]
    quantize_static(path, tmp_path / "int8.onnx", StaticConfig(reduce_range=True), feeds)
    model = onnx.load(str(tmp_path / "int8.onnx"))
    products = products_of(model)
    fed = [item.name for item in products.graph.input]
    given = [item.name for item in products.graph.output]
    assert (len(fed), len(given)) == (2, 2)
    known = {item.name for item in (*model.graph.input, *model.graph.output)}
    shown = [name for name in (*fed, *given) if name not in known]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in shown)
    whole = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [item.name for item in whole.get_outputs()]
    values = dict(zip(names, whole.run(names, feeds[0]), strict=True)) | feeds[0]
    alone = ort.InferenceSession(products.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, value in zip(given, alone.run(given, {name: values[name] for name in fed}), strict=True):
        np.testing.assert_array_equal(value, values[name])
    with pytest.raises(ValueError, match="no quantized product"):
        products_of(onnx.load(str(path)))


@pytest.mark.slow
def test_a_tiny_model_on_an_emulated_processor(
    runs: Any, emulated_python: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulated_python("cortex-a72")
    small = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 100}
    for module in (emulated, device_rows):
        monkeypatch.setattr(module, "CPUS", ("cortex-a72",))
    monkeypatch.setattr(emulated, "_RANDOM", emulated._RANDOM | small)
    monkeypatch.setattr(emulated, "TEXTS", 3)
    monkeypatch.setattr(emulated, "_student_graph", lambda root: None)
    kept: dict[str, Any] = {}
    make_anew = runs.once

    def once(name: str, make: Any) -> Any:
        return kept[name] if name in kept else kept.setdefault(name, make_anew(name, make))

    runs.once = once
    products = device_rows.int8_products(runs)
    assert products.value == 0, products.how
    assert "20 static QDQ products" in products.how
    assert device_rows.fp32(runs).value <= 1e-5
