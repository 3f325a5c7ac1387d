"""What a user says about the data: the files, the columns, and how validation is carved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketformer.runtime.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Files and columns of one data set; every file is .csv, .tsv, .jsonl or .parquet.

    ``label_column`` None means data without labels. ``unlabeled`` holds further texts to distil on, in the same text
    column. Without ``validation``, the share
    ``validation_fraction`` (above 0, below 1) of train becomes validation, drawn with ``seed``.
    ``RecipeError`` for values that cannot work.
    """

    train: Path
    validation: Path | None = None
    test: Path | None = None
    unlabeled: Path | None = None
    text_column: str = "text"
    label_column: str | None = "label"
    validation_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.validation_fraction < 1.0:
            raise RecipeError(
                f"validation_fraction is {self.validation_fraction}, which is not between 0 and 1",
                hint="Use for instance 0.1, or give a validation file.",
            )
        if not self.text_column:
            raise RecipeError("text_column is empty", hint="Name the column that holds the text.")
        if self.label_column == "":
            raise RecipeError(
                "label_column is an empty name",
                hint="Name the column that holds the label, or null for none.",
            )
        if self.text_column == self.label_column:
            raise RecipeError(
                f"text_column and label_column are both {self.text_column!r}",
                hint="Name two different columns.",
            )
