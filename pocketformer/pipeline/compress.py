"""The recipe that ``compress`` writes for a user: the usual steps, the same for every data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.rundir import read_run
from pocketformer.runtime.errors import DataError, ModelError

# Five layers of six stay, and of these what Fisher saliency finds most needed, wherever it stands. It goes in two
# strokes with distillation between, because a student that loses less at once ends closer to its teacher.
# What half of the word table's directions say is all that the student needs, if it is trained with them.
_FIRST_STROKE: Mapping[str, Any] = {
    "layers": 0.84,
    "heads": 0.5,
    "ffn": 0.45,
    "embedding_rank": 0.5,
    "allocation": "global",
}
_FIRST_RECOVERY: Mapping[str, Any] = {"training": {"epochs": 2}}
_SECOND_STROKE: Mapping[str, Any] = {"heads": 0.5, "ffn": 0.5, "allocation": "global"}
_SECOND_RECOVERY: Mapping[str, Any] = {"training": {"epochs": 10}}
# Every piece of the vocabulary stays; the rare ones that the data does not use share the embedding row of their like.
_VOCABULARY: Mapping[str, Any] = {"size": 0.7, "replacement": "nearest"}

_COMPRESSION: tuple[Any, ...] = (
    {"prune": _FIRST_STROKE},
    {"distill": _FIRST_RECOVERY},
    {"prune": _SECOND_STROKE},
    {"distill": _SECOND_RECOVERY},
    {"vocabulary": _VOCABULARY},
)
# Nothing is trained: the smallest model that its own refitted weights keep within the budget.
_FAST: tuple[Any, ...] = (
    {"prune": {"method": "obs", "allocation": "latency", "cost": "budget"}},
    {"vocabulary": _VOCABULARY},
)
_OTHER_TASKS = (
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForNextSentencePrediction",
)
_DELIVERY: tuple[Any, ...] = ("export", "quantize", "bundle", "bench", "report")
USUAL_STEPS: tuple[Any, ...] = (*_COMPRESSION, *_DELIVERY)


def compress_recipe(
    model: Path,
    *,
    data: Mapping[str, Any] | None,
    targets: Sequence[str] = ("cpu",),
    budget: Mapping[str, Any] | None = None,
    finetune: bool | None = None,
    search: bool = False,
    fast: bool = False,
    qat: bool = False,
    time_limit_s: float | None = None,
    **settings: Any,
) -> Recipe:
    """The recipe for ``compress``; ``settings`` are further keys of a recipe.

    ``finetune`` None fine-tunes exactly when the model has no head for the labels in the data. ``search`` replaces the
    usual cuts by a search of at most ``time_limit_s`` seconds (None: the step's own limit), ``fast`` by pruning without
    any training. ``qat`` trains once more for quantization, when all is cut.
    """
    if data is None:
        raise DataError("compressing needs data", hint="Name a file with --train.")
    values = {name: value for name, value in settings.items() if value is not None}
    values |= {"model": model, "data": dict(data), "targets": list(targets), "budget": dict(budget or {})}
    limit = {} if time_limit_s is None else {"time_limit_s": time_limit_s}
    compression = ({"search": limit},) if search else _FAST if fast else _COMPRESSION
    compression = (*compression, *(("qat",) if qat else ()))
    draft = Recipe.from_mapping({**values, "steps": list(compression)}, source="options")
    first = ["finetune"] if finetune or (finetune is None and _needs_head(draft)) else []
    return Recipe.from_mapping({**values, "steps": [*first, *compression, *_DELIVERY]}, source="options")


def _needs_head(recipe: Recipe) -> bool:
    """Whether the model lacks a trained head; without labels to train one that is an error."""
    if not recipe.model.is_dir() or read_run(recipe.model) is not None:
        return False
    from pocketformer.compress.models import label_names_of
    from pocketformer.pipeline.inputs import check_supported

    check_supported(recipe.model)
    if label_names_of(recipe.model) is not None:
        return False
    _refuse_other_tasks(recipe.model)
    if recipe.data is None or recipe.data.label_column is None:
        raise ModelError(
            f"{recipe.model} has no trained head, and there are no labels to train one",
            hint="Name the column with --label-column, or give a model that is already fine-tuned.",
        )
    return True


def _refuse_other_tasks(model: Path) -> None:
    """Raise ``ModelError`` for a model that was trained for another task: that it gets a new head must be asked for."""
    names = json.loads((model / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    other = [str(name) for name in names if str(name).endswith(_OTHER_TASKS)]
    if other:
        raise ModelError(
            f"{model} is a {other[0]}, which does not classify whole texts",
            hint="Pass --finetune to train a new head on its encoder, or give a text classifier.",
        )
