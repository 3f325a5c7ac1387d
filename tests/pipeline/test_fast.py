"""``compress --fast``: its recipe, and what a run of its first step keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketformer.pipeline.compress import compress_recipe
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.run import run


@pytest.fixture
def recipe(tiny_model_dir: Path, tiny_files: tuple[Path, Path]) -> Recipe:
    train, test = tiny_files
    return compress_recipe(
        tiny_model_dir,
        data={"train": train, "test": test},
        budget={"max_drop": 1.0},
        fast=True,
        max_length=32,
        threads=1,
    )


def test_nothing_in_it_trains(recipe: Recipe) -> None:
    names = [step.name for step in recipe.steps]
    assert names[:2] == ["prune", "vocabulary"]
    assert not {"distill", "finetune", "search"} & set(names)
    assert recipe.steps[0].config.cost == "budget"
    assert (
        Recipe.from_mapping(
            {
                "model": recipe.model,
                "steps": [{"prune": {"cost": "budget", "method": "obs", "allocation": "latency"}}],
            }
        ).steps[0]
        == recipe.steps[0]
    )


def test_the_cost_that_was_found_is_a_choice_that_is_not_searched_again(
    recipe: Recipe, tmp_path: Path
) -> None:
    short = recipe.model_copy(update={"steps": recipe.steps[:1]})
    first = run(short, tmp_path / "first")
    record = first.records[0]
    assert record["choices"] == {"prune": {"cost": record["metrics"]["cost_limit"]}}
    assert record["metrics"]["trials"] == 5
    resolved = Recipe.from_file(tmp_path / "first" / "recipe.yaml")
    again = run(resolved, tmp_path / "again")
    assert "trials" not in again.records[0]["metrics"]
    weights = [json.dumps(made.records[0]["outputs"], sort_keys=True) for made in (first, again)]
    assert weights[0] == weights[1]


def test_another_budget_searches_again(recipe: Recipe, tmp_path: Path) -> None:
    short = recipe.model_copy(update={"steps": recipe.steps[:1]})
    loose = run(short, tmp_path / "out")
    strict = short.model_copy(update={"budget": short.budget.model_copy(update={"max_drop": 0.0})})
    tight = run(strict, tmp_path / "out", force=True)
    assert tight.records[0]["key"] != loose.records[0]["key"]
    assert tight.records[0]["metrics"]["cost_limit"] > loose.records[0]["metrics"]["cost_limit"]
