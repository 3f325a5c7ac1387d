"""From what a recipe names to what a run starts with: the model's artefacts, the splits, the metric."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.pipeline.recipe import DataSection, Recipe
from pocketformer.pipeline.rundir import read_run
from pocketformer.runtime.errors import ModelError, RecipeError
from pocketformer.runtime.manifest import sha256_file
from pocketformer.runtime.metrics import check_metric

if TYPE_CHECKING:
    from pocketformer.compress.data import DataConfig, Splits


def resolve_inputs(recipe: Recipe) -> tuple[Recipe, Artefacts]:
    """The recipe with what it inherits from a run directory, and the artefacts that it starts from.

    ``recipe.model`` is a Hugging Face directory, a run directory or a bundle.
    """
    source = recipe.model
    if not source.exists():
        raise ModelError(f"no such model: {source}", hint="Name a Hugging Face directory or a run directory.")
    earlier = read_run(source) if source.is_dir() else None
    if earlier is not None:
        artefacts = Artefacts.from_json(earlier["artefacts"], source.resolve())
        _check_present(artefacts, source)
        return _inherit(recipe, source), artefacts
    if source.is_dir() and (source / "manifest.json").exists():
        return recipe, Artefacts(bundle=source.absolute())
    check_supported(source)
    starts_untrained = bool(recipe.steps) and recipe.steps[0].name == "finetune"
    # Absolute, because the run keeps these paths and is read again from elsewhere.
    source = source.absolute()
    return recipe, Artefacts(model=source, teacher=None if starts_untrained else source)


def check_supported(directory: Path) -> None:
    """Raise ``ModelError`` unless this is a whole model directory of an encoder that can be compressed."""
    from pocketformer.compress.families import family_of_type
    from pocketformer.compress.models import check_model_directory

    check_model_directory(directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    kind = str(config["model_type"])
    try:
        family_of_type(kind)
    except ModelError as error:
        raise ModelError(
            f"{directory} is a model of type '{kind}', which Pocketformer cannot compress", hint=error.hint
        ) from error


def load_splits(recipe: Recipe, artefacts: Artefacts) -> tuple[Splits | None, str]:
    """The splits and a fingerprint of the data files; (None, "") when the recipe names no data."""
    if recipe.data is None:
        return None, ""
    from pocketformer.compress.data import prepare_splits
    from pocketformer.compress.models import label_names_of

    config = data_config(recipe)
    source = artefacts.teacher or artefacts.model
    names = label_names_of(source) if source is not None else None
    if recipe.steps and recipe.steps[0].name == "finetune":
        # The head is made for the data; a head of the same labels is trained on, in its own order.
        splits = prepare_splits(config, None)
        if names is not None and set(names) == set(splits.label_names):
            splits = prepare_splits(config, names)
    else:
        splits = prepare_splits(config, names)
    values = {
        name: sha256_file(path)
        for name in ("train", "validation", "test", "unlabeled")
        if (path := getattr(recipe.data, name)) is not None
    }
    columns = recipe.data.model_dump(mode="json", exclude={"train", "validation", "test", "unlabeled"})
    digest = hashlib.sha256(json.dumps([values, columns], sort_keys=True).encode()).hexdigest()
    return splits, digest


def data_config(recipe: Recipe) -> DataConfig:
    """The data section as the data room takes it; ``RecipeError`` without one."""
    from pocketformer.compress.data import DataConfig

    if recipe.data is None:
        raise RecipeError("the recipe names no data", hint="Name a file with --train.")
    values = recipe.data.model_dump()
    return DataConfig(**values, seed=recipe.seed)


def resolve_metric(recipe: Recipe, splits: Splits | None) -> str:
    """The metric of the recipe, or accuracy with labels and agreement with the teacher without."""
    labelled = splits is not None and splits.train.labels is not None
    if not labelled:
        if recipe.metric not in (None, "agreement"):
            raise RecipeError(
                f"{recipe.metric} needs labels, and the data has none",
                hint="Name the column with --label-column, or leave --metric out: agreement is measured.",
            )
        return "agreement"
    metric = recipe.metric or "accuracy"
    check_metric(metric, len(splits.label_names) if splits else 0)
    return metric


def with_teacher_labels(splits: Splits, teacher: Path, max_length: int) -> Splits:
    """The splits with the teacher's answers where the data has no labels."""
    from pocketformer.compress.encoding import TextEncoding, predict_logits
    from pocketformer.compress.models import load_classifier

    model = load_classifier(teacher)
    encoding = TextEncoding(teacher, max_length)

    def answers(texts: tuple[str, ...]) -> tuple[int, ...]:
        if not texts:
            return ()
        return tuple(
            int(i) for i in predict_logits(model, encoding.encode(texts), encoding.pad_id).argmax(-1)
        )

    return replace(
        splits,
        train=replace(splits.train, labels=answers(splits.train.texts)),
        validation=replace(splits.validation, labels=answers(splits.validation.texts)),
    )


def _check_present(artefacts: Artefacts, source: Path) -> None:
    # What a run started from may lie outside its directory, and may have been moved since.
    for field in fields(artefacts):
        path: Path | None = getattr(artefacts, field.name)
        if path is not None and not path.exists():
            raise ModelError(
                f"the run in {source} refers to {path} ({field.name}), which is not there any more",
                hint="Put it back, or start from a directory that is whole.",
            )


def _inherit(recipe: Recipe, source: Path) -> Recipe:
    # Data, length, metric and budget belong together: they come from the earlier run unless the caller names data.
    path = source / "recipe.yaml"
    if recipe.data is not None or not path.exists():
        return recipe
    earlier = Recipe.from_file(path)
    data: DataSection | None = earlier.data
    return recipe.model_copy(
        update={
            "data": data,
            "max_length": earlier.max_length,
            "budget": recipe.budget if "budget" in recipe.model_fields_set else earlier.budget,
            "metric": recipe.metric or (earlier.metric if earlier.metric != "agreement" else None),
        }
    )
