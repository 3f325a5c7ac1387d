"""What can be known to be wrong before a run writes anything: a stage that must fail is found here, not in an hour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.pipeline.inputs import resolve_metric
from pocketformer.pipeline.recipe import Recipe
from pocketformer.runtime.errors import DeviceError, ModelError, RecipeError

if TYPE_CHECKING:
    from pocketformer.compress.data import Splits
    from pocketformer.pipeline.fleet import Place

# What each step starts from and leaves; all but export, an unquantized engine and report also need the data.
_NEEDS: dict[str, tuple[str, ...]] = {
    "finetune": ("model",),
    "distill": ("model", "teacher"),
    "prune": ("model",),
    "sparsify": ("model",),
    "vocabulary": ("model",),
    "search": ("model", "teacher"),
    "qat": ("model", "teacher"),
    "choose": ("model", "teacher"),
    "export": ("model",),
    "quantize": ("model", "graph"),
    "tensorrt": ("model", "graph"),
    "litert": ("model", "graph"),
    "bundle": ("model", "graph"),
    "bench": ("bundle", "teacher"),
    "report": ("measurements",),
}
_MAKES = {
    "finetune": "model",
    "distill": "model",
    "prune": "model",
    "sparsify": "model",
    "vocabulary": "model",
    "search": "model",
    "qat": "model",
    "choose": "model",
    "export": "graph",
    "quantize": "quantized",
    "tensorrt": "engine",
    "litert": "bundle",
    "bundle": "bundle",
    "bench": "measurements",
}


def preflight(recipe: Recipe, artefacts: Artefacts, splits: Splits | None) -> tuple[Recipe, str]:
    """Check all that can be checked without writing; the recipe with its length cut to the model's, and the metric.

    ``InputError`` and its kin for targets, candidates and metrics that do not exist, steps that lack what they
    start from, and a model that cannot be loaded or has another task than to classify texts. ``DeviceError`` for
    a target that this version cannot measure: a run would time this machine and give it the other's name.
    """
    from pocketformer.pipeline.fleet import lacking_gpu, places_of
    from pocketformer.targets.support import require_gpu

    places = places_of(recipe)
    steps = [step.name for step in recipe.steps]
    # Where other devices can be measured, the row of the GPU says in the end what it lacks.
    if "bench" in steps and len(lacking_gpu(places)) == len(places) and places[0].profile is not None:
        require_gpu(places[0].profile)
    if "quantize" in steps and "quantize" not in recipe.choices and places[0].way != "here":
        raise DeviceError(
            f"candidates are timed on this machine, and the first target is {places[0].name!r}",
            hint=f"Name this machine first: --target cpu --target {recipe.targets[0]}. All of them are measured in the "
            "end, each where it stands.",
        )
    metric = resolve_metric(recipe, splits)
    _check_steps(recipe, artefacts, splits, places)
    if artefacts.model is None:
        return recipe, metric
    capacity = _check_model(artefacts.model, recipe, splits)
    if recipe.max_length > capacity:
        recipe = recipe.model_copy(update={"max_length": capacity})
    return recipe, metric


def _check_steps(
    recipe: Recipe, artefacts: Artefacts, splits: Splits | None, places: tuple[Place, ...]
) -> None:
    from pocketformer.pipeline.candidates import require_candidates
    from pocketformer.pipeline.engine_rows import engine_config
    from pocketformer.pipeline.engine_stages import check_tensorrt
    from pocketformer.pipeline.session_tuning import chosen_settings

    engines = [place for place in places if place.way in ("engine", "engine-there")]
    for step in recipe.steps:
        for kind in _NEEDS[step.name]:
            if (
                kind != "graph"
                or artefacts.quantized is None
                or step.name in ("quantize", "tensorrt", "litert")
            ):
                artefacts.need(kind, verb=step.name)
        if splits is None and _needs_data(step.name, step.config):
            raise RecipeError(f"{step.name} needs data, and none is given", hint="Name a file with --train.")
        unlabelled = splits is not None and splits.train.labels is None and artefacts.teacher is None
        if step.name == "finetune" and unlabelled:
            raise RecipeError(
                "finetune needs labels, and the data has none", hint="Name the column with --label-column."
            )
        if step.name == "tensorrt":
            check_tensorrt(step.config)
        if step.name == "litert":
            from pocketformer.export.litert import require_litert

            require_litert()
        if step.name == "bench":
            for place in engines:
                artefacts.need("graph", verb=f"an engine for {place.name}")
                if place.way == "engine":
                    check_tensorrt(engine_config(place))
        if step.name in ("quantize", "search"):
            chosen = recipe.choices.get("quantize") if step.name == "quantize" else None
            names = step.config.candidates if chosen is None else (str(chosen),)
            require_candidates(names, places, onnx=step.name == "search")
            chosen_settings(recipe.choices)
        if step.name in _MAKES:
            artefacts = artefacts.with_made({_MAKES[step.name]: ""}, Path(step.name))
            if step.name == "finetune":
                artefacts = artefacts.with_made({"teacher": ""}, Path(step.name))


def _needs_data(name: str, config: Any) -> bool:
    """Whether the step works on texts; an engine is built without any unless it is quantized."""
    return bool(config.quantized) if name == "tensorrt" else name != "export"


def _check_model(directory: Path, recipe: Recipe, splits: Splits | None) -> int:
    """Load model and tokenizer once, so that what is wrong with them is known; the longest input it takes."""
    from pocketformer.compress.encoding import TextEncoding
    from pocketformer.compress.families import family_of
    from pocketformer.compress.models import load_classifier
    from pocketformer.compress.prune.positions import position_capacity

    new_head = bool(recipe.steps) and recipe.steps[0].name == "finetune" and splits is not None
    model: Any = load_classifier(directory, label_names=splits.label_names if new_head and splits else None)
    family_of(model)
    problem = getattr(model.config, "problem_type", None)
    single = problem in (None, "single_label_classification") and model.config.num_labels > 1
    if not new_head and not single:
        kind = "gives a text several labels" if str(problem).startswith("multi") else "is a regression"
        raise ModelError(
            f"{directory} {kind}", hint="Supported are classifiers that give each text one label."
        )
    TextEncoding(directory, recipe.max_length)
    return position_capacity(model)
