"""``export --format tensorrt``: an engine out of a model directory or a run, built and never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pocketformer.runtime.errors import MissingDependencyError
from pocketformer.runtime.fingerprint import check_fingerprint, read_fingerprint
from pocketformer.runtime.tensorrt.layers import read_layers, what_is_missing
from pocketformer.runtime.tensorrt.library import load_library

OPTIONS = ("--threads", "1", "--max-length", "16")


@pytest.fixture
def installed() -> None:
    try:
        load_library()
    except MissingDependencyError as error:
        pytest.skip(f"{error.message}; {error.hint}")


@pytest.mark.usefixtures("installed")
def test_an_engine_is_built_beside_its_fingerprint(cli: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("export", tiny_model_dir, "--format", "tensorrt", "--compute-capability", "8.9", *OPTIONS)
    outcome = cli(*arguments, "--json", "-o", out)
    assert outcome.code == 0, outcome.err
    engine = out / outcome.json["artefacts"]["engine"]
    assert engine.relative_to(out).parts[:2] == ("stages", "02-tensorrt")
    found = check_fingerprint(
        engine, compute_capability="8.9", graph=engine.with_name("model.onnx"), precision="fp16"
    )
    assert found.status == "built"
    assert found.profile["sequence"] == [1, 8, 16]
    (stage,) = (stage for stage in outcome.json["stages"] if stage["name"] == "tensorrt")
    assert any("never run" in note for note in stage["notes"])
    assert stage["metrics"]["same_label"] == 1.0
    assert "latency" not in json.dumps(stage)
    again = cli(*arguments, "-o", out)
    assert again.code == 0
    assert again.err.count("reused") == 2
    assert "engine: stages/02-tensorrt/model.engine" in again.out
    facts = cli("inspect", engine, "--json").json
    assert (facts["precision"], facts["compute_capabilities"]) == ("fp16", ["8.9"])
    assert facts["layers"]["precisions"]["fp16"] > 0
    assert sum(facts["layers"]["types"].values()) == facts["layers"]["count"] == len(read_layers(engine))
    assert facts["module_installed"] == facts["library_version"]


@pytest.mark.usefixtures("installed")
def test_int8_is_calibrated_on_the_training_texts(
    cli: Any, tiny_model_dir: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = ("export", tiny_model_dir, "--format", "tensorrt", "--precision", "int8-fp16", *OPTIONS)
    refused = cli(*arguments, "-o", tmp_path / "none")
    assert refused.code == 2
    assert "needs data" in refused.err
    assert not (tmp_path / "none").exists()
    outcome = cli(*arguments, "--train", tiny_files[0], "--json", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    (stage,) = (stage for stage in outcome.json["stages"] if stage["name"] == "tensorrt")
    assert stage["metrics"]["layers_int8"] > 0
    found = check_fingerprint(tmp_path / "out" / outcome.json["artefacts"]["engine"])
    assert (found.precision, found.compute_capabilities) == ("int8-fp16", ("8.0", "8.6", "8.9", "12.0"))


@pytest.mark.usefixtures("installed")
def test_a_gpu_that_needs_its_own_device_is_refused_early(
    cli: Any, tiny_model_dir: Path, tmp_path: Path
) -> None:
    outcome = cli(
        "export",
        tiny_model_dir,
        "--format",
        "tensorrt",
        "--compute-capability",
        "8.7",
        "-o",
        tmp_path / "out",
    )
    assert outcome.code == 2
    assert "Jetson Orin" in outcome.err
    assert not (tmp_path / "out").exists()


def test_without_the_library_nothing_is_begun(
    cli: Any, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketformer.runtime.tensorrt import library

    monkeypatch.setattr(library, "LIBRARIES", ("tensorrt_that_nobody_has",))
    outcome = cli("export", tiny_model_dir, "--format", "tensorrt", "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "pocketformer[tensorrt-rtx]" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("installed")
def test_a_target_names_gpu_precision_and_library(cli: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("export", tiny_model_dir, "--format", "tensorrt", "--target", "tensorrt-rtx-sm86", *OPTIONS)
    outcome = cli(*arguments, "--json", "-o", out)
    assert outcome.code == 0, outcome.err
    engine = out / outcome.json["artefacts"]["engine"]
    found = read_fingerprint(engine)
    assert (found.precision, found.compute_capabilities, found.library) == ("fp16", ("8.6",), "tensorrt_rtx")

    # The engine, its directory and the run all name it; this machine has no say about the GPU unless it has one.
    for place in (engine, engine.parent, out):
        verified = cli("verify", place, "--json")
        names = [check["name"] for check in verified.json["checks"]]
        assert names[:4] == ["fingerprint", "bytes", "graph", "library"]
        seen = {*names, *(item["name"] for item in verified.json["unchecked"])}
        assert "gpu" in seen
        assert verified.code == (0 if verified.json["ok"] else 5)
    engine.write_bytes(b"damaged")
    refused = cli("verify", out)
    assert refused.code == 5
    assert "FAILED    bytes: its bytes are not those that were built" in refused.out
    rebuild = "pocketformer export MODEL --format tensorrt --compute-capability 8.6 --precision fp16"
    assert rebuild in refused.err


@pytest.mark.usefixtures("installed")
def test_options_win_over_the_target(cli: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    profile = tmp_path / "board.yaml"
    profile.write_text(
        "name: board\ndescription: A board\nruntime: tensorrt-rtx\nprecisions: [fp32]\ncompute_capability: '8.9'\n"
    )
    arguments = ("export", tiny_model_dir, "--format", "tensorrt", "--target", profile, *OPTIONS)
    outcome = cli(*arguments, "--compute-capability", "8.0", "--json", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    found = read_fingerprint(tmp_path / "out" / outcome.json["artefacts"]["engine"])
    assert (found.precision, found.compute_capabilities) == ("fp32", ("8.0",))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("target", "code", "words"),
    [
        ("cpu", 2, "runs onnxruntime, not TensorRT"),
        ("jetson-orin-nano", 4, "an engine of tensorrt is asked for, and here is tensorrt_rtx"),
        ("gpu", 2, "runs onnxruntime, not TensorRT"),
        ("tensorrt-rtx-sm99", 2, "there is no target"),
    ],
)
def test_a_target_that_cannot_be_built_for_is_refused_early(
    target: str, code: int, words: str, cli: Any, tiny_model_dir: Path, tmp_path: Path
) -> None:
    outcome = cli(
        "export", tiny_model_dir, "--format", "tensorrt", "--target", target, "-o", tmp_path / "out"
    )
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("installed")
def test_sparse_weights_are_looked_for(cli: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    arguments = ("export", tiny_model_dir, "--format", "tensorrt", "--target", "tensorrt-rtx-sm86", *OPTIONS)
    outcome = cli(*arguments, "--sparse-weights", "--json", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    (stage,) = (stage for stage in outcome.json["stages"] if stage["name"] == "tensorrt")
    assert (stage["metrics"]["products"], stage["metrics"]["products_2_4"]) == (20, 0)
    assert any(
        note.startswith("0 of 20 products with constant weights are 2:4 sparse") for note in stage["notes"]
    )
    record = json.loads((tmp_path / "out/stages/02-tensorrt/stage.json").read_text())
    products = record["details"]["sparsity"]
    assert [product["is_2_4"] for product in products] == [False] * 20
    assert all(product["sparse_groups"] < product["groups"] for product in products)


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_pruned_student_becomes_an_engine(
    cli: Any, tiny_model_dir: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe = {
        "model": str(tiny_model_dir),
        "data": {"train": str(tiny_files[0])},
        "max_length": 16,
        "threads": 1,
        "steps": [
            {"prune": {"heads": 0.5, "ffn": 0.5, "allocation": "global"}},
            "export",
            {"tensorrt": {"precision": "int8", "compute_capabilities": ["8.9"]}},
            {"tensorrt": {"precision": "fp16", "compute_capabilities": ["8.9"]}},
        ],
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    outcome = cli("run", tmp_path / "recipe.yaml", "--json", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    stages = tmp_path / "out" / "stages"
    pruned = json.loads((stages / "01-prune" / "stage.json").read_text())["metrics"]
    widths = {(pruned[f"layer_{i}_heads"], pruned[f"layer_{i}_ffn"]) for i in range(3)}
    assert len(widths) > 1, "the layers were pruned alike: this is about layers of other widths"
    for folder, precision in (("03-tensorrt", "int8"), ("04-tensorrt", "fp16")):
        engine = stages / folder / "model.engine"
        assert what_is_missing(read_layers(engine), precision) is None
        assert read_fingerprint(engine).precision == precision


def test_options_of_an_engine_need_one(cli: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    outcome = cli("export", tiny_model_dir, "--precision", "fp16", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "--format tensorrt" in outcome.err
