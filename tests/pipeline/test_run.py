"""The whole path on a tiny model: what a run leaves, how it resumes, and that it can be repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pocketformer import load
from pocketformer.pipeline.context import SilentListener
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.run import RunResult, run
from pocketformer.report.storage import load_report
from pocketformer.runtime.errors import RunDirectoryError
from pocketformer.runtime.verify import verify


class Recording(SilentListener):
    def __init__(self, stop_after: str | None = None) -> None:
        self.reused: dict[str, bool] = {}
        self._stop_after = stop_after

    def stage_finished(self, name: str, record: Mapping[str, Any], *, reused: bool) -> None:
        self.reused[f"{record['index']}-{name}"] = reused
        if name == self._stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(tiny_recipe, tmp_path_factory.mktemp("run") / "out")


def test_a_run_leaves_all_that_is_promised(finished: RunResult) -> None:
    out = finished.directory
    for name in (
        "recipe.yaml",
        "run.json",
        "report.json",
        "report.html",
        "report.md",
        "MODEL_CARD.md",
        "log.txt",
    ):
        assert (out / name).stat().st_size > 0, name
    assert not (out / ".lock").exists()
    bundle = finished.bundles["cpu"]
    assert {"model.onnx", "manifest.json", "tokenizer.json", "golden.jsonl"} <= {
        p.name for p in bundle.iterdir()
    }
    assert verify(bundle).ok


def test_the_report_has_the_documented_keys(finished: RunResult) -> None:
    report = json.loads((finished.directory / "report.json").read_text())
    assert {"schema_version", "task", "metric_name", "budget", "budget_met", "steps", "pareto"} <= set(report)
    assert {"environment", "lineage", "devices"} <= set(report)
    (device,) = report["devices"]
    assert device["status"] == "measured"
    parts = [device["result"], device["baselines"]["torch_eager"], device["baselines"]["onnxruntime_fp32"]]
    # The tiny model has 64 positions: the workloads of 128 tokens are left out, and that is said.
    assert any("1x128: not measured" in note for note in device["notes"])
    for part in parts:
        assert set(part["latency_ms"]) == {"real", "1x32"}
        assert part["metric"] is not None
        assert part["parameters"] > 0
        assert part["file_mb"] > 0
    result = device["result"]
    low, high = result["drop_ci95"]
    assert low <= result["drop"] <= high
    teacher = device["baselines"]["torch_eager"]
    assert result["drop"] == pytest.approx(teacher["metric"] - result["metric"])
    assert result["file_mb"] < teacher["file_mb"]
    assert result["parameters"] < teacher["parameters"]
    assert [step["stage"] for step in report["steps"]] == [
        "teacher",
        "distill",
        "prune",
        "vocabulary",
        "quantize",
    ]
    assert sum(point["chosen"] for point in report["pareto"]) == 1
    assert all(candidate["reason"] for candidate in report["candidates"])


def test_a_finished_run_is_reused_whole(finished: RunResult, tiny_recipe: Recipe) -> None:
    listener = Recording()
    run(tiny_recipe, finished.directory, listener=listener)
    assert all(listener.reused.values())
    assert len(listener.reused) == len(tiny_recipe.steps)


def test_an_interrupted_run_ends_with_the_same_model(
    finished: RunResult, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny_recipe, tmp_path / "out", listener=Recording(stop_after="prune"))
    listener = Recording()
    resumed = run(tiny_recipe, tmp_path / "out", listener=listener)
    assert list(listener.reused.values())[:4] == [True, True, True, False]
    vocabulary = "stages/04-vocabulary/model/model.safetensors"
    assert (resumed.directory / vocabulary).read_bytes() == (finished.directory / vocabulary).read_bytes()


def test_the_resolved_recipe_makes_no_choice_anew(
    finished: RunResult, tmp_path: Path, tiny_texts: list[str]
) -> None:
    recipe = Recipe.from_file(finished.directory / "recipe.yaml")
    again = run(recipe, tmp_path / "again")
    record = next(r for r in again.records if r["name"] == "quantize")
    assert [c["name"] for c in record["details"]["candidates"]] == [recipe.choices["quantize"]]
    first, second = load(finished.bundles["cpu"]), load(again.bundles["cpu"])
    assert first.predict(tiny_texts) == second.predict(tiny_texts)


def test_another_recipe_does_not_touch_a_finished_run(finished: RunResult, tiny_recipe: Recipe) -> None:
    before = (finished.directory / "report.json").read_bytes()
    with pytest.raises(RunDirectoryError, match="other settings"):
        run(tiny_recipe.model_copy(update={"seed": 5}), finished.directory)
    assert (finished.directory / "report.json").read_bytes() == before


def test_a_run_goes_on_from_another_run(finished: RunResult, tmp_path: Path) -> None:
    steps = ["export", {"quantize": {"candidates": ["dynamic-plain"], "rounds": 2}}]
    recipe = Recipe.from_mapping(
        {"model": finished.directory, "threads": 1, "steps": steps, "budget": {"max_drop": 1}}
    )
    result = run(recipe, tmp_path / "more")
    assert result.artefacts.quantized is not None
    assert result.artefacts.quantized.exists()
    assert result.artefacts.teacher == (finished.directory / "stages/01-finetune/model").resolve()


def test_without_labels_agreement_is_measured(
    tiny_recipe: Recipe, finished: RunResult, tmp_path: Path
) -> None:
    teacher = finished.directory / "stages/01-finetune/model"
    assert tiny_recipe.data is not None
    steps = tuple(step for step in tiny_recipe.steps if step.name != "finetune")
    data = tiny_recipe.data.model_copy(update={"label_column": None})
    result = run(
        tiny_recipe.model_copy(update={"model": teacher, "data": data, "steps": steps}), tmp_path / "out"
    )
    report = load_report(result.directory)
    assert report.metric_name == "agreement"
    assert report.evaluation.basis == "teacher"
    assert report.devices[0].baselines.torch_eager is not None
    assert report.devices[0].baselines.torch_eager.metric is None
    assert [warning.code for warning in report.warnings] == ["accuracy_not_measured"]
