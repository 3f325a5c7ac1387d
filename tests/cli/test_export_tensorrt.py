"""``export --format tensorrt``: an engine out of a model directory or a run, built and never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pocketformer.export.tensorrt.library import load_library
from pocketformer.runtime.errors import MissingDependencyError
from pocketformer.runtime.fingerprint import check_fingerprint

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
    from pocketformer.export.tensorrt import library

    monkeypatch.setattr(library, "_NAMES", ("tensorrt_that_nobody_has",))
    outcome = cli("export", tiny_model_dir, "--format", "tensorrt", "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "pocketformer[tensorrt-rtx]" in outcome.err
    assert not (tmp_path / "out").exists()


def test_options_of_an_engine_need_one(cli: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    outcome = cli("export", tiny_model_dir, "--precision", "fp16", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "--format tensorrt" in outcome.err
