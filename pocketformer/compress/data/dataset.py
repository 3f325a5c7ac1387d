"""The shapes that data takes inside a run: a data set, the splits, and the account of what was removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Texts and, when the data has them, one label index a text (into ``Splits.label_names``)."""

    texts: tuple[str, ...]
    labels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.texts):
            raise ValueError(f"{len(self.texts)} texts but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, kw_only=True)
class TestDataset(Dataset):
    """The held-out split, read when every candidate is frozen, and what its file had too much of.

    ``duplicates_removed`` counts rows (one of each text is kept), ``conflicting_labels_removed`` counts
    texts that stood there with several labels and so have no known answer.
    """

    __test__ = False  # pytest takes classes named Test* for test cases

    rows_read: int
    empty_texts: int = 0
    duplicates_removed: int = 0
    conflicting_labels_removed: int = 0


@dataclass(frozen=True, kw_only=True)
class TestFingerprint:
    """All that may be known early of the test file: hashes of its texts and the names of its labels."""

    __test__ = False

    hashes: frozenset[bytes]
    labels: frozenset[str]
    rows_read: int


@dataclass(frozen=True, kw_only=True)
class DataAudit:
    """What was found and removed before training, over the train and validation files.

    ``rows_read`` rows with or without text; ``empty_texts`` rows dropped for want of text;
    ``duplicates_removed`` rows dropped because their text stood in the same file before;
    ``conflicting_labels_removed`` texts dropped because one file gave them several labels;
    ``leaked_into_validation`` and ``leaked_into_test`` train texts dropped because they stand in the
    validation or the test file (a text in both counts as leaked into test);
    ``validation_leaked_into_test`` validation texts dropped for the same reason.
    Two texts are the same when they are equal after Unicode NFC and with runs of white space as one space.
    ``class_counts`` gives rows per label name, for "train" and "validation"; empty without labels.
    """

    rows_read: int
    empty_texts: int = 0
    duplicates_removed: int = 0
    conflicting_labels_removed: int = 0
    leaked_into_validation: int = 0
    leaked_into_test: int = 0
    validation_leaked_into_test: int = 0
    class_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists, numbers and dictionaries, for run.json and report.json."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["class_counts"] = {split: dict(counts) for split, counts in self.class_counts.items()}
        values["notes"] = list(self.notes)
        return values


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Train and validation, cleaned; ``label_names[i]`` is the name of label ``i`` (empty without names).

    ``unlabeled``: texts that stand in no other split, on which a student may hear its teacher.
    """

    train: Dataset
    validation: Dataset
    label_names: tuple[str, ...]
    audit: DataAudit
    unlabeled: tuple[str, ...] = ()
