"""A run whose candidates run in OpenVINO, a target's threads and precisions, and settings that a recipe keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pocketformer import load
from pocketformer.cli import run_command
from pocketformer.pipeline.inspect import inspect
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.run import RunResult, run
from pocketformer.runtime.errors import RecipeError
from pocketformer.runtime.manifest import EngineNeed, read_manifest
from pocketformer.runtime.verify import verify


def _recipe(model: Path, files: tuple[Path, Path], steps: list[Any], **values: Any) -> Recipe:
    train, test = files
    common = {"model": model, "data": {"train": train, "test": test}, "max_length": 16}
    return Recipe.from_mapping({**common, "budget": {"max_drop": 1.0}, "steps": steps, **values})


@pytest.fixture(scope="module")
def in_openvino(
    tiny_model_dir: Path, tiny_files: tuple[Path, Path], openvino: None, tmp_path_factory: Any
) -> RunResult:
    steps: list[Any] = [
        {"finetune": {"training": {"epochs": 1, "batch_size": 8}}},
        "export",
        {"quantize": {"candidates": ["openvino-static-reduced"], "rounds": 2}},
        {"bundle": {"golden": 4}},
        {"bench": {"rounds": 3, "loadgen_s": 0, "cold_starts": 1}},
        "report",
    ]
    folder = tmp_path_factory.mktemp("openvino-run")
    return run(_recipe(tiny_model_dir, tiny_files, steps, threads=1), folder / "out")


def test_a_run_ends_with_a_bundle_for_openvino(in_openvino: RunResult, tiny_texts: list[str]) -> None:
    bundle = in_openvino.bundles["cpu"]
    manifest = read_manifest(bundle)
    assert (manifest.graph, manifest.engine) == ("model.xml", EngineNeed("openvino", "2022.1"))
    assert manifest.precision == "int8-static"
    assert verify(bundle).ok
    assert load(bundle).engine.providers == ("OpenVINO",)
    assert "pip install 'pocketformer[openvino]'" in (bundle / "README.md").read_text()
    report = json.loads((in_openvino.directory / "report.json").read_text())
    (device,) = report["devices"]
    assert "openvino" in device["versions"]
    assert device["fallback_operators"] == {}
    sizes = device["bundle"]["files_mb"]
    shipped = sum(sizes[name] for name in ("model.xml", "model.bin", "tokenizer.json"))
    assert device["result"]["file_mb"] == pytest.approx(shipped)
    assert device["result"]["cold_start"]["total_ms"] > 0
    outputs = next(r["outputs"] for r in in_openvino.records if r["name"] == "quantize")
    assert set(outputs) == {"model.xml", "model.bin"}


def test_verbs_take_a_bundle_for_openvino(in_openvino: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = in_openvino.bundles["cpu"]
    found = inspect(bundle)
    assert found.facts["precision"] == "int8-static"
    assert "OpenVINO IR" in found.lines()[0]
    assert run_command(["predict", str(bundle), "the cat ?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] in load(bundle).labels
    assert run_command(["predict", str(bundle), "the cat ?", "--provider", "cuda"]) == 2


@pytest.fixture(scope="module")
def on_a_box(tiny_model_dir: Path, tiny_files: tuple[Path, Path], tmp_path_factory: Any) -> RunResult:
    """A run for a target of one's own, which names its threads and precisions."""
    folder = tmp_path_factory.mktemp("box")
    profile = folder / "box.yaml"
    profile.write_text("name: box\ndescription: one thread, int8\nprecisions: [int8]\nthreads: 1\n")
    steps: list[Any] = [
        "export",
        {"quantize": {"candidates": ["fp32", "dynamic-plain-reduced"], "rounds": 2}},
        {"bundle": {"golden": 4}},
    ]
    return run(_recipe(tiny_model_dir, tiny_files, steps, targets=[str(profile)]), folder / "out")


def test_the_target_s_threads_and_precisions_hold(on_a_box: RunResult) -> None:
    assert json.loads((on_a_box.directory / "run.json").read_text())["threads"] == 1
    session = read_manifest(on_a_box.bundles["box"]).session
    assert session.intra_op_threads == 1
    record = next(r for r in on_a_box.records if r["name"] == "quantize")
    found = {row["name"]: row for row in record["details"]["candidates"]}
    assert found["fp32"]["reason"] == "target 'box' takes int8, and this one computes in fp32"
    assert found["dynamic-plain-reduced"]["taken"]
    # Fixed threads are no setting to be tried.
    tried = [row["name"] for row in record["details"]["candidates"] if row["stage"] == "session"]
    assert tried
    assert all(name.startswith("dynamic-plain-reduced, ") and "thread" not in name for name in tried)
    assert read_manifest(on_a_box.bundles["box"]).engine == EngineNeed("onnxruntime")


def test_a_resolved_recipe_keeps_its_settings_and_measures_none(on_a_box: RunResult, tmp_path: Path) -> None:
    recipe = Recipe.from_file(on_a_box.directory / "recipe.yaml")
    assert set(recipe.choices) == {"quantize", "session"}
    kept = recipe.model_copy(
        update={"threads": 2, "choices": {**recipe.choices, "session": {"memory_arena": False}}}
    )
    again = run(kept, tmp_path / "again")
    record = next(r for r in again.records if r["name"] == "quantize")
    assert [row["stage"] for row in record["details"]["candidates"]] == ["quantize"]
    assert record["choices"]["session"] == {"memory_arena": False}
    session = read_manifest(again.bundles["box"]).session
    # The recipe's threads stand above the target's.
    assert (session.memory_arena, session.spinning, session.intra_op_threads) == (False, True, 2)


def test_a_wrong_setting_in_a_recipe_is_refused_before_the_run(on_a_box: RunResult, tmp_path: Path) -> None:
    recipe = Recipe.from_file(on_a_box.directory / "recipe.yaml")
    wrong = recipe.model_copy(update={"choices": {**recipe.choices, "session": {"spining": False}}})
    with pytest.raises(RecipeError, match="did you mean 'spinning'"):
        run(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()
