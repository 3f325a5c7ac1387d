from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pocketformer.export.graph_file import load_graph
from pocketformer.export.tensorrt.build import build_engine
from pocketformer.runtime.errors import ExportError, InputError
from pocketformer.runtime.fingerprint import check_fingerprint
from pocketformer.runtime.results import StepResult
from pocketformer.runtime.tensorrt.config import PRECISIONS, EngineConfig, Profile
from pocketformer.runtime.tensorrt.layers import layers_path
from pocketformer.runtime.tensorrt.library import Library
from pocketformer.runtime.tensorrt.progress import BuildProgress

ADA = EngineConfig(compute_capabilities=("8.9",), profile=Profile(batch=(1, 2, 4), sequence=(1, 16, 64)))


@pytest.fixture(scope="module")
def engines(
    typed_graphs: dict[str, Path], library: Library, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, StepResult[Path]]:
    """An engine of each precision for compute capability 8.9."""
    folder = tmp_path_factory.mktemp("engines")
    return {
        precision: build_engine(graph, folder / precision / "model.engine", ADA, library=library)
        for precision, graph in typed_graphs.items()
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_engine_is_built_with_fingerprint_and_layers(
    precision: str, engines: dict[str, StepResult[Path]], typed_graphs: dict[str, Path], library: Library
) -> None:
    result = engines[precision]
    assert sorted(path.name for path in result.output.parent.iterdir()) == [
        "model.engine",
        "model.engine.json",
        "model.engine.layers.json",
    ]
    found = check_fingerprint(
        result.output,
        library=library.name,
        library_version=library.version,
        compute_capability="8.9",
        graph=typed_graphs[precision],
        profile=ADA.profile.to_dict(),
        precision=precision,
    )
    assert found.status == "built"
    assert result.metrics["bytes"] == result.output.stat().st_size
    assert "never run" in result.notes[0]


@pytest.mark.parametrize(
    ("precision", "there", "absent"),
    [
        ("fp32", ["fp32"], ["fp16", "int8"]),
        ("fp16", ["fp16"], ["int8"]),
        ("int8", ["int8"], ["fp16"]),
        ("int8-fp16", ["int8", "fp16"], []),
    ],
)
def test_the_layers_show_the_precision_that_was_asked_for(
    precision: str, there: list[str], absent: list[str], engines: dict[str, StepResult[Path]]
) -> None:
    metrics = engines[precision].metrics
    assert all(metrics[f"layers_{name}"] > 0 for name in there), metrics
    assert all(metrics[f"layers_{name}"] == 0 for name in absent), metrics


def test_products_compute_in_what_was_asked_for(engines: dict[str, StepResult[Path]]) -> None:
    def products(precision: str) -> list[str]:
        layers = json.loads(layers_path(engines[precision].output).read_text())["layers"]
        assert len(layers) == engines[precision].metrics["layers"]
        return [layer["precision"] for layer in layers if layer["type"] == "gemm"]

    assert set(products("fp32")) == {"fp32"}
    assert set(products("fp16")) == {"fp16"}
    # In each of three layers query, key and value as one, and three more; between activations stays in float.
    assert products("int8").count("int8") >= 3 * 4
    assert products("int8-fp16").count("int8") == products("int8").count("int8")
    assert set(products("int8-fp16")) == {"int8", "fp16"}


def test_fewer_bits_make_a_smaller_engine(
    library: Library, wide_graphs: dict[str, Path], tmp_path: Path
) -> None:
    size = {
        precision: build_engine(graph, tmp_path / f"{precision}.engine", ADA, library=library).metrics[
            "bytes"
        ]
        for precision, graph in wide_graphs.items()
    }
    assert size["int8"] < size["fp16"] < size["fp32"]


def test_progress_is_told_and_an_error_in_it_cancels(
    typed_graphs: dict[str, Path], library: Library, tmp_path: Path
) -> None:
    seen: list[BuildProgress] = []
    build_engine(typed_graphs["fp32"], tmp_path / "m.engine", ADA, library=library, on_progress=seen.append)
    assert seen
    assert all(1 <= progress.step <= progress.total for progress in seen)

    def stop(_: BuildProgress) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "stopped" / "m.engine"
    with pytest.raises(KeyboardInterrupt):
        build_engine(typed_graphs["fp32"], output, ADA, library=library, on_progress=stop)
    assert not output.parent.exists()


def test_several_gpus_in_one_engine(typed_graphs: dict[str, Path], library: Library, tmp_path: Path) -> None:
    config = EngineConfig(compute_capabilities=("8.6", "8.9"), profile=ADA.profile)
    result = build_engine(typed_graphs["fp16"], tmp_path / "m.engine", config, library=library)
    assert check_fingerprint(result.output, compute_capability="8.6").compute_capabilities == ("8.6", "8.9")


def test_a_timing_cache_that_the_library_does_not_keep_is_left_alone(
    typed_graphs: dict[str, Path], library: Library, tmp_path: Path
) -> None:
    if not library.builds_ahead_of_time:
        pytest.skip(f"{library.name} keeps a timing cache")
    cache = tmp_path / "timing.bin"
    cache.write_bytes(b"of another library")
    config = EngineConfig(compute_capabilities=("8.9",), profile=ADA.profile, timing_cache=cache)
    result = build_engine(typed_graphs["fp32"], tmp_path / "m.engine", config, library=library)
    assert any("keeps no timing cache" in note for note in result.notes)
    assert cache.read_bytes() == b"of another library"


def test_what_cannot_be_built_leaves_the_old_engine(
    typed_graphs: dict[str, Path], library: Library, tmp_path: Path
) -> None:
    output = tmp_path / "m.engine"
    output.write_bytes(b"old")
    bad = load_graph(typed_graphs["fp32"])
    bad.graph.node[-1].op_type = "Frobnicate"
    onnx.save_model(bad, str(tmp_path / "bad.onnx"))
    with pytest.raises(ExportError, match="Frobnicate"):
        build_engine(tmp_path / "bad.onnx", output, ADA, library=library)
    with pytest.raises(InputError, match="at least one compute capability"):
        build_engine(typed_graphs["fp32"], output, EngineConfig(compute_capabilities=()), library=library)
    with pytest.raises(InputError, match=r"8\.7"):
        build_engine(
            typed_graphs["fp32"], output, EngineConfig(compute_capabilities=("8.7",)), library=library
        )
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["bad.onnx", "m.engine"]
    assert output.read_bytes() == b"old"


def test_a_graph_of_fixed_shape_needs_no_profile(library: Library, tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"], name="relu")], "fixed", value[:1], value[1:]
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save_model(model, str(tmp_path / "m.onnx"))
    assert build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", ADA, library=library).metrics["bytes"] > 0
