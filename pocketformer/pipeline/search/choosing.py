"""Another budget, answered from the models that a search has made: nothing is trained."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketformer.pipeline.context import Made, RunContext
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.rundir import require_run
from pocketformer.pipeline.search.config import ChooseConfig
from pocketformer.pipeline.search.trials import Judgement, Rules, Trial
from pocketformer.runtime.errors import InputError, RecipeError

FOLDER = "search"
"""Below a run directory: the trials of its search, a folder each."""


def choose_recipe(
    run_dir: Path, *, budget: Mapping[str, Any] | None = None, model: int | None = None
) -> tuple[Recipe, Judgement]:
    """The recipe that delivers and measures a model of the search in ``run_dir``, and why it is this one.

    ``budget``: limits as a recipe has them; None: those of the search. ``model`` takes the one of that number whatever
    the budget. Raises ``InputError`` for a directory without a search or a number that it does not have.
    """
    trials = trials_of(run_dir)
    earlier = Recipe.from_file(run_dir / "recipe.yaml")
    given = {} if budget is None else {"budget": dict(budget)}
    draft = Recipe.from_mapping({"model": run_dir, **given}, source="options")
    rules = Rules(earlier.budget if budget is None else draft.budget)
    if model is None:
        judgement = rules.judge(trials)
    else:
        trial = _numbered(trials, model, run_dir)
        missing = rules.missing(trial)
        judgement = Judgement(trial=trial, kept=not missing, missing=missing)
    chosen = judgement.trial
    recipe = Recipe.from_mapping(
        {
            "model": run_dir,
            "targets": list(earlier.targets),
            "budget": rules.budget.model_dump(mode="json"),
            "seed": earlier.seed,
            "threads": earlier.threads,
            "choices": {"quantize": chosen.candidate},
            "steps": [
                {"choose": {"model": chosen.number}},
                "export",
                "quantize",
                "bundle",
                # What the search measured is the proof of the rest: here the limits are checked.
                {"bench": {"loadgen_s": 0.0, "cold_starts": 1, "roofline": False}},
                "report",
            ],
        },
        source="options",
    )
    return recipe, judgement


def choose(config: ChooseConfig, context: RunContext, folder: Path) -> Made:
    """Hand on the model of a trial as it is."""
    from pocketformer.pipeline.search.stage import describe

    source = context.recipe.model
    trials = trials_of(source)
    if config.model is None:
        trial = Rules(context.recipe.budget).judge(trials).trial
    else:
        trial = _numbered(trials, config.model, source)
    model = source / FOLDER / f"{trial.number:02d}" / "model"
    if not model.is_dir():
        raise InputError(
            f"model {trial.number} of the search in {source} is not there any more",
            hint="Run the search again: it makes what is missing.",
        )
    shutil.copytree(model, folder / "model")
    return Made(
        artefacts={"model": "model"},
        metrics={
            f"validation_{context.metric}": trial.metric,
            "parameters": float(trial.parameters),
            "file_mb": sum(p.stat().st_size for p in model.glob("*.safetensors")) / 1e6,
        },
        notes=(describe(trial),),
    )


def trials_of(run_dir: Path) -> list[Trial]:
    """The trials of the search in a run directory, as they were judged; ``InputError`` where there was none."""
    stages = require_run(run_dir)["stages"]
    found = next((stage["details"].get("trials") for stage in stages if stage["name"] == "search"), None)
    if not found:
        raise InputError(
            f"{run_dir} holds no search",
            hint="Make one: `pocketformer compress MODEL --train ... --search -o OUT`.",
        )
    shown = ("on_front", "taken")
    try:
        return [Trial.from_dict({k: v for k, v in trial.items() if k not in shown}) for trial in found]
    except (TypeError, KeyError) as error:
        raise RecipeError(
            f"the search in {run_dir} was made by another version of Pocketformer",
            hint="Run the same command again there with --force.",
        ) from error


def _numbered(trials: list[Trial], number: int, run_dir: Path) -> Trial:
    for trial in trials:
        if trial.number == number:
            return trial
    raise InputError(
        f"the search in {run_dir} made no model {number}",
        hint=f"It made {', '.join(str(trial.number) for trial in trials)}.",
    )
