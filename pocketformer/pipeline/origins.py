"""Where a run's model and data came from: names, hashes and licences, for the report and for the bundle's SBOM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocketformer.export.sbom import DATA, MODEL, Origin
from pocketformer.pipeline.rundir import origin_of
from pocketformer.runtime.manifest import sha256_file

if TYPE_CHECKING:
    from pocketformer.pipeline.recipe import Recipe

SPLITS = ("train", "validation", "test", "unlabeled")


def model_origin(recipe: Recipe) -> Origin:
    """The model that the recipe begins with."""
    from pocketformer.compress.licence import license_id

    source = origin_of(recipe.model)
    weights = source / "model.safetensors"
    return Origin(
        kind=MODEL,
        name=source.name,
        role="source",
        sha256=sha256_file(weights) if weights.exists() else None,
        license=license_id(source),
    )


def data_origins(recipe: Recipe) -> list[Origin]:
    """The files of data that the recipe names, in the order of ``SPLITS``."""
    files = data_files(recipe)
    return [
        Origin(kind=DATA, name=path.name, role=split, sha256=sha256_file(path))
        for split, path in files.items()
    ]


def data_files(recipe: Recipe) -> dict[str, Path]:
    """The recipe's files of data by split."""
    if recipe.data is None:
        return {}
    found = {split: getattr(recipe.data, split) for split in SPLITS}
    return {split: path for split, path in found.items() if path is not None}


def data_license_text(recipe: Recipe) -> str | None:
    """The LICENSE file that lies beside the data, or None."""
    from pocketformer.compress.licence import license_text

    folders = dict.fromkeys(path.parent for path in data_files(recipe).values())
    return next((text for text in map(license_text, folders) if text), None)
