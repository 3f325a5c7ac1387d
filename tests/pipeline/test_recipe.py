"""Recipes: read, refused with a word that helps, written and read again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pocketformer.compress.finetune import FinetuneConfig
from pocketformer.pipeline.compress import USUAL_STEPS
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.template import recipe_template
from pocketformer.runtime.errors import RecipeError


def _recipe(**changes: object) -> Recipe:
    return Recipe.from_mapping(
        {"model": "m", "data": {"train": "t.csv"}, "steps": list(USUAL_STEPS), **changes}
    )


def test_yaml_round_trip_keeps_every_setting(tmp_path: Path) -> None:
    recipe = _recipe(
        budget={"max_drop": 0.02},
        steps=[
            "finetune",
            {"distill": {"layers": 2, "augmentation": {"copies": 1}, "training": {"epochs": 1.5}}},
            "report",
        ],
        choices={"quantize": "fp32"},
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    again = Recipe.from_file(path)
    assert again.steps == recipe.steps
    assert again.choices == {"quantize": "fp32"}
    assert again.budget.max_drop == 0.02
    assert again.model == tmp_path / "m"


def test_the_usual_steps_carry_their_settings() -> None:
    steps = [(step.name, step.config) for step in _recipe().steps]
    assert dict(steps)["vocabulary"].replacement == "nearest"
    strokes = [config for name, config in steps if name == "prune"]
    assert [(stroke.layers, stroke.allocation) for stroke in strokes] == [(0.84, "global"), (1.0, "global")]
    assert strokes[1].ffn > strokes[0].ffn
    assert [stroke.embedding_rank for stroke in strokes] == [0.5, 1.0]
    recoveries = [config.training.epochs for name, config in steps if name == "distill"]
    assert recoveries[1] > recoveries[0]


def test_nested_settings_start_from_what_the_step_has_there() -> None:
    (step,) = _recipe(steps=[{"finetune": {"training": {"epochs": 9}}}]).steps
    assert step.config.training == replace(FinetuneConfig().training, epochs=9.0)
    assert step.config.training.patience is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": []}, "unknown key 'stepz' .did you mean 'steps'"),
        ({"steps": ["distil"]}, "no step 'distil' .did you mean 'distill'"),
        (
            {"steps": [{"distill": {"temprature": 2}}]},
            "unknown setting 'temprature' .did you mean 'temperature'",
        ),
        ({"steps": [{"distill": {"training": {"epochs": "many"}}}]}, r"distill\.training\.epochs"),
        ({"steps": [{"distill": {}, "prune": {}}]}, "one name with its settings"),
        ({"budget": {"max_drop": 3}}, r"budget\.max_drop"),
        ({"targets": []}, "at least one target"),
        ({"task": "juggling"}, "task"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _recipe(**change)


def test_the_written_template_is_a_valid_recipe(tmp_path: Path) -> None:
    text = recipe_template(model=None, train=None, test=None)
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    recipe = Recipe.from_file(path)
    assert [step.name for step in recipe.steps] == [
        step if isinstance(step, str) else next(iter(step)) for step in USUAL_STEPS
    ]
    assert yaml.safe_load(text)["budget"]["max_drop"] == 0.01


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "broken.yaml").write_text("a: [")
    for name in ("list.yaml", "broken.yaml", "absent.yaml"):
        with pytest.raises(RecipeError):
            Recipe.from_file(tmp_path / name)


def test_a_drop_without_a_limit_survives_the_file(tmp_path: Path) -> None:
    recipe = Recipe.from_mapping({"model": tmp_path, "budget": {"max_drop": None, "max_latency_ms": 2.0}})
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert Recipe.from_file(tmp_path / "r.yaml").budget == recipe.budget
