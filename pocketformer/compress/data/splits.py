"""Three honest splits: duplicates, conflicts and leaks are found, counted and removed before training.

The test file is opened twice. Early, ``test_fingerprint`` keeps only hashes of its texts and the names of
its labels, to find leaks and unknown labels; at the very end, ``read_test`` reads it for scoring.

Who lands in validation depends on the text and the seed alone, never on the order of the rows: inside each
class, texts are ranked by a seeded hash and the first ones are taken.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketformer.compress.data.config import DataConfig
from pocketformer.compress.data.dataset import DataAudit, Dataset, Splits, TestDataset, TestFingerprint
from pocketformer.compress.data.labels import label_indices, resolve_label_names
from pocketformer.compress.data.table import Rows, read_rows
from pocketformer.runtime.errors import DataError


def normalised(text: str) -> str:
    """What two texts must share to count as the same: Unicode NFC, white space collapsed, case kept."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def text_hash(text: str) -> bytes:
    """Sixteen bytes that stand for the normalised text (BLAKE2b)."""
    return hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def test_fingerprint(path: Path, text_column: str, label_column: str | None) -> TestFingerprint:
    """What may be known of the test file before the end: hashes of texts and label names, no text.

    ``DataError`` as ``read_rows`` raises it.
    """
    rows = read_rows(path, text_column, label_column)
    return TestFingerprint(
        hashes=frozenset(text_hash(text) for text in rows.texts),
        labels=frozenset(rows.labels or ()),
        rows_read=rows.rows_read,
    )


def prepare_splits(config: DataConfig, model_label_names: Sequence[str] | None) -> Splits:
    """Read train and validation, remove what must not be there, match the labels, carve validation.

    ``model_label_names`` are the names of the model's outputs in their order, None when its head will be
    made for this data. See ``resolve_label_names`` for how names are matched, ``DataAudit`` for what is
    counted. ``DataError`` when nothing is left, when one class only is left, or when validation or test
    knows a label that train lacks; ``ModelError`` when the model's names are not the data's.
    """
    columns = (config.text_column, config.label_column)
    fingerprint = test_fingerprint(config.test, *columns) if config.test is not None else None
    train = _Cleaned.of(read_rows(config.train, *columns))
    validation = None
    if config.validation is not None:
        validation = _Cleaned.of(read_rows(config.validation, *columns))
    rows_read = train.rows.rows_read + (validation.rows.rows_read if validation else 0)
    empty_texts = train.rows.empty_texts + (validation.rows.empty_texts if validation else 0)
    notes = list(_notes_on_cleaning("train", train))
    if validation is not None:
        notes += _notes_on_cleaning("validation", validation)

    in_test = fingerprint.hashes if fingerprint is not None else frozenset()
    leaked_into_test = train.remove(in_test)
    validation_leaked = validation.remove(in_test) if validation is not None else 0
    if validation is not None and not validation.texts:
        raise DataError(
            f"{config.validation}: every row is also in the test file or has no usable label",
            hint="Leave the validation file out, and validation is carved from train.",
        )
    leaked_into_validation = train.remove(frozenset(validation.texts)) if validation is not None else 0
    if not train.texts:
        raise DataError(
            f"{config.train}: no row is left after removing what is also in validation or test",
            hint="Train, validation and test must be different texts.",
        )

    label_names: tuple[str, ...] = tuple(model_label_names or ())
    if config.label_column is not None:
        _check_classes(config, train, validation, fingerprint)
        label_names = resolve_label_names(set(train.labels.values()), model_label_names, str(config.train))

    if validation is None:
        train_keys, validation_keys = _carve(train, config.validation_fraction, config.seed)
        if not train_keys or not validation_keys:
            raise DataError(
                f"{config.train}: {len(train.texts)} usable rows are too few to carve validation from",
                hint="Give more data, or a validation file.",
            )
        source = train
    else:
        train_keys, validation_keys, source = list(train.texts), list(validation.texts), validation
    unlabeled = _unlabeled(config, in_test | frozenset(train.texts) | frozenset(source.texts), notes)
    parts = {
        "train": train.dataset(train_keys, label_names),
        "validation": source.dataset(validation_keys, label_names),
    }
    class_counts: dict[str, dict[str, int]] = {}
    if config.label_column is not None:
        class_counts = {name: _class_counts(part, label_names) for name, part in parts.items()}
        missing = [name for name, count in class_counts["validation"].items() if count == 0]
        if missing:
            notes.append("validation has no row of: " + ", ".join(missing))
    return Splits(
        train=parts["train"],
        validation=parts["validation"],
        label_names=label_names,
        unlabeled=unlabeled,
        audit=DataAudit(
            rows_read=rows_read,
            empty_texts=empty_texts,
            duplicates_removed=train.duplicates + (validation.duplicates if validation else 0),
            conflicting_labels_removed=train.conflicts + (validation.conflicts if validation else 0),
            leaked_into_validation=leaked_into_validation,
            leaked_into_test=leaked_into_test,
            validation_leaked_into_test=validation_leaked,
            class_counts=class_counts,
            notes=tuple(notes),
        ),
    )


def read_test(config: DataConfig, label_names: Sequence[str]) -> TestDataset:
    """Read the test file for scoring, after every candidate is frozen.

    One of each text is kept; texts with several labels are dropped; both are counted. ``DataError`` without
    a test file, when nothing is left, or when a label is not among ``label_names``.
    """
    if config.test is None:
        raise DataError("there is no test file", hint="Name one, or compare with the teacher's answers only.")
    cleaned = _Cleaned.of(read_rows(config.test, config.text_column, config.label_column))
    if not cleaned.texts:
        raise DataError(f"{config.test}: every text has several labels", hint="Give each text one label.")
    dataset = cleaned.dataset(list(cleaned.texts), label_names, str(config.test))
    return TestDataset(
        texts=dataset.texts,
        labels=dataset.labels,
        rows_read=cleaned.rows.rows_read,
        empty_texts=cleaned.rows.empty_texts,
        duplicates_removed=cleaned.duplicates,
        conflicting_labels_removed=cleaned.conflicts,
    )


@dataclass
class _Cleaned:
    """One file's texts by hash, in the file's order, without duplicates and conflicting labels."""

    rows: Rows
    texts: dict[bytes, str]
    labels: dict[bytes, str]
    duplicates: int
    conflicts: int

    @classmethod
    def of(cls, rows: Rows) -> _Cleaned:
        texts: dict[bytes, str] = {}
        labels: dict[bytes, str] = {}
        conflicting: dict[bytes, int] = {}
        keys = [text_hash(text) for text in rows.texts]
        for index, (key, text) in enumerate(zip(keys, rows.texts, strict=True)):
            texts.setdefault(key, text)
            if rows.labels is not None and labels.setdefault(key, rows.labels[index]) != rows.labels[index]:
                conflicting[key] = 0
        for key in conflicting:
            del texts[key], labels[key]
        rows_of_conflicts = sum(key in conflicting for key in keys)
        return cls(rows, texts, labels, len(keys) - rows_of_conflicts - len(texts), len(conflicting))

    def remove(self, keys: frozenset[bytes]) -> int:
        """Drop the texts with these hashes; how many there were."""
        found = [key for key in self.texts if key in keys]
        for key in found:
            del self.texts[key]
            self.labels.pop(key, None)
        return len(found)

    def dataset(self, keys: Sequence[bytes], label_names: Sequence[str], where: str = "") -> Dataset:
        labels = None
        if self.rows.labels is not None:
            labels = label_indices([self.labels[key] for key in keys], label_names, where)
        return Dataset(texts=tuple(self.texts[key] for key in keys), labels=labels)


def _unlabeled(config: DataConfig, known: frozenset[bytes], notes: list[str]) -> tuple[str, ...]:
    """The texts of the unlabeled file that are in no split; what was dropped is added to ``notes``."""
    if config.unlabeled is None:
        return ()
    cleaned = _Cleaned.of(read_rows(config.unlabeled, config.text_column, None))
    notes += _notes_on_cleaning("unlabeled", cleaned)
    dropped = cleaned.remove(known)
    if dropped:
        notes.append(f"unlabeled: {dropped} texts dropped that are in train, validation or test")
    notes.append(f"unlabeled: {len(cleaned.texts)} texts to distil on")
    return tuple(cleaned.texts.values())


def _notes_on_cleaning(split: str, cleaned: _Cleaned) -> list[str]:
    notes = []
    if cleaned.rows.empty_texts:
        notes.append(f"{split}: {cleaned.rows.empty_texts} rows without text dropped")
    if cleaned.duplicates:
        notes.append(f"{split}: {cleaned.duplicates} duplicate rows dropped")
    if cleaned.conflicts:
        notes.append(f"{split}: {cleaned.conflicts} texts with several labels dropped")
    return notes


def _check_classes(
    config: DataConfig, train: _Cleaned, validation: _Cleaned | None, fingerprint: TestFingerprint | None
) -> None:
    known = set(train.labels.values())
    before = set(train.rows.labels or ())
    if len(known) < 2:
        was = (
            f" (of {len(before)} before duplicates, conflicts and leaks were removed)"
            if before != known
            else ""
        )
        raise DataError(
            f"{config.train}: column {config.label_column!r} has one class only: {_listed(known)}{was}",
            hint="A classifier needs rows of at least two classes; is it the right column?",
        )
    others = (
        (config.validation, set(validation.labels.values()) if validation is not None else set[str]()),
        (config.test, set(fingerprint.labels) if fingerprint is not None else set[str]()),
    )
    for path, labels in others:
        unknown = labels - known
        if unknown:
            lost = unknown & before
            why = (
                f"; train had {_listed(lost)} before duplicates, conflicts and leaks were removed"
                if lost
                else ""
            )
            raise DataError(
                f"{path}: labels that train lacks: {_listed(unknown)}; train has {_listed(known)}{why}",
                hint="Add such rows to train, or take them out here; labels are compared letter by letter.",
            )


def _carve(train: _Cleaned, fraction: float, seed: int) -> tuple[list[bytes], list[bytes]]:
    """Split the keys into train and validation, stratified by label, in the file's order."""
    salt = hashlib.blake2b(str(seed).encode("ascii"), digest_size=16).digest()
    by_class: dict[str, list[bytes]] = {}
    for key in train.texts:
        by_class.setdefault(train.labels.get(key, ""), []).append(key)
    quotas = validation_quotas({name: len(keys) for name, keys in by_class.items()}, fraction)
    chosen: set[bytes] = set()
    for name, keys in by_class.items():
        ranked = sorted(keys, key=lambda key: hashlib.blake2b(key, key=salt, digest_size=16).digest())
        chosen.update(ranked[: quotas[name]])
    return [key for key in train.texts if key not in chosen], [key for key in train.texts if key in chosen]


def validation_quotas(counts: Mapping[str, int], fraction: float) -> dict[str, int]:
    """How many rows of each class go to validation: the largest remainder method, so that each class is
    within one row of its exact share and the total within one of ``fraction`` of all; at least one in all,
    and at least one of each class stays in train.
    """
    exact = {name: count * fraction for name, count in counts.items()}
    quotas = {name: min(int(share), counts[name] - 1) for name, share in exact.items()}
    wanted = max(1, round(sum(counts.values()) * fraction))
    by_remainder = sorted(counts, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_remainder:
        if sum(quotas.values()) >= wanted:
            break
        if quotas[name] < counts[name] - 1:
            quotas[name] += 1
    return quotas


def _class_counts(dataset: Dataset, label_names: Sequence[str]) -> dict[str, int]:
    counts = Counter(dataset.labels or ())
    return {name: counts[index] for index, name in enumerate(label_names)}


def _listed(names: set[str]) -> str:
    ordered = sorted(names)
    return ", ".join(repr(name) for name in ordered[:20]) + (", ..." if len(ordered) > 20 else "")
