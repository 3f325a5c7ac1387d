"""Splits are disjoint, stratified, seeded and independent of row order; what was removed is counted."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.compress.data import DataConfig, Dataset, prepare_splits, read_test, splits
from pocketformer.compress.data.labels import resolve_label_names
from pocketformer.runtime.errors import DataError, ModelError, RecipeError

Row = tuple[str, str]


def write(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def many(label: str, count: int, start: int = 0) -> list[Row]:
    return [(f"{label} number {index}", label) for index in range(start, start + count)]


_COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(2, 40), min_size=2)


@settings(max_examples=60)
@given(counts=_COUNTS, fraction=st.floats(0.05, 0.5), seed=st.integers(0, 5), shuffle=st.randoms())
def test_carved_validation(
    tmp_path: Path, counts: dict[str, int], fraction: float, seed: int, shuffle: random.Random
) -> None:
    rows = [row for label, count in counts.items() for row in many(label, count)]
    path = write(tmp_path / "train.csv", rows)
    config = DataConfig(train=path, validation_fraction=fraction, seed=seed)
    result = prepare_splits(config, None)
    train, validation = set(result.train.texts), set(result.validation.texts)
    assert not train & validation
    assert train | validation == {text for text, _ in rows}
    assert result.audit.class_counts["train"].keys() == counts.keys()
    for label, count in counts.items():
        in_validation = result.audit.class_counts["validation"][label]
        assert abs(in_validation - count * fraction) < 1 or len(validation) == 1
        assert result.audit.class_counts["train"][label] == count - in_validation >= 1
    for part in (result.train, result.validation):
        for text, label in zip(part.texts, part.labels or (), strict=True):
            assert text.startswith(result.label_names[label])

    shuffle.shuffle(rows)
    write(path, rows)
    again = prepare_splits(config, None)
    assert (set(again.train.texts), set(again.validation.texts)) == (train, validation)


def test_another_seed_carves_another_validation(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", many("a", 50) + many("b", 50))
    first, second = (prepare_splits(DataConfig(train=path, seed=seed), None) for seed in (0, 1))
    assert len(first.validation) == len(second.validation) == 10
    assert set(first.validation.texts) != set(second.validation.texts)


@given(
    counts=st.dictionaries(st.text(max_size=3), st.integers(1, 1000), min_size=1, max_size=60),
    fraction=st.floats(0.001, 0.999),
)
def test_quotas_keep_a_row_of_each_class_in_train_and_stay_near_the_share(
    counts: dict[str, int], fraction: float
) -> None:
    quotas = splits.validation_quotas(counts, fraction)
    assert all(0 <= quotas[name] < count for name, count in counts.items())
    total = sum(counts.values())
    assert sum(quotas.values()) <= max(1, round(total * fraction))
    if all(count * fraction <= count - 1 for count in counts.values()):
        assert sum(quotas.values()) == max(1, round(total * fraction))


def test_duplicates_conflicts_and_leaks_are_removed_and_counted(tmp_path: Path) -> None:
    train = many("a", 20) + many("b", 20)
    train += [("a  number 0 ", "a"), ("a number 0", "a"), ("a number 1", "b"), (" ", "a")]
    train += [("cafe\u0301", "b"), ("caf\u00e9", "b")]
    validation = [
        *many("a", 2, 100),
        *many("b", 2, 100),
        ("a number 2", "a"),
        ("b number 3", "b"),
        ("b number 3", "b"),
    ]
    test = [*many("a", 2, 200), ("a number 2", "b"), ("b number 4", "b"), ("b number 100", "b")]
    config = DataConfig(
        train=write(tmp_path / "train.csv", train),
        validation=write(tmp_path / "validation.csv", validation),
        test=write(tmp_path / "test.csv", test),
    )
    result = prepare_splits(config, None)
    audit = result.audit
    assert audit.rows_read == len(train) + len(validation)
    assert audit.empty_texts == 1
    # two spellings of "a number 0", one of café, one row of validation
    assert audit.duplicates_removed == 4
    assert audit.conflicting_labels_removed == 1
    assert audit.leaked_into_test == 2
    assert audit.validation_leaked_into_test == 2
    assert audit.leaked_into_validation == 1
    removed = {"a number 1", "a number 2", "b number 3", "b number 4"}
    assert removed.isdisjoint(result.train.texts)
    assert {"a number 2", "b number 100"}.isdisjoint(result.validation.texts)
    assert "a number 0" in result.train.texts
    assert len(result.train) == 41 - 4
    assert audit.class_counts == {"train": {"a": 18, "b": 19}, "validation": {"a": 2, "b": 2}}
    as_dict = audit.to_dict()
    assert as_dict["duplicates_removed"] == 4
    assert isinstance(as_dict["notes"], list)
    assert isinstance(as_dict["class_counts"]["train"], dict)


def test_the_early_look_at_the_test_file_keeps_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "test.csv", [("a very secret text", "a"), ("another", "b")])
    fingerprint = splits.test_fingerprint(path, "text", "label")
    assert fingerprint.labels == {"a", "b"}
    assert splits.text_hash(" a very  secret text") in fingerprint.hashes
    assert "secret" not in repr(fingerprint)


def test_read_test_keeps_one_of_each_and_counts(tmp_path: Path) -> None:
    rows = [("x", "b"), ("x ", "b"), ("y", "a"), ("z", "a"), ("z", "b"), ("", "a")]
    config = DataConfig(train=tmp_path / "unused.csv", test=write(tmp_path / "test.csv", rows))
    result = read_test(config, ("a", "b"))
    assert isinstance(result, Dataset)
    assert (result.texts, result.labels) == (("x", "y"), (1, 0))
    assert (result.rows_read, result.empty_texts) == (6, 1)
    assert (result.duplicates_removed, result.conflicting_labels_removed) == (1, 1)
    with pytest.raises(DataError, match=r"test\.csv: unknown labels \['b'\]"):
        read_test(config, ("a", "c"))
    with pytest.raises(DataError, match="no test file"):
        read_test(DataConfig(train=tmp_path / "unused.csv"), ("a", "b"))


def test_data_without_labels_is_split_all_the_same(tmp_path: Path) -> None:
    rows = [*many("a", 20), ("a number 1", "b")]
    config = DataConfig(
        train=write(tmp_path / "train.csv", rows),
        test=write(tmp_path / "test.csv", many("a", 3)),
        label_column=None,
    )
    result = prepare_splits(config, ("yes", "no"))
    assert result.train.labels is None
    assert result.label_names == ("yes", "no")
    assert (len(result.train), len(result.validation)) == (15, 2)
    assert (result.audit.duplicates_removed, result.audit.leaked_into_test) == (1, 3)
    assert read_test(config, result.label_names).labels is None


@pytest.mark.parametrize(
    ("train", "validation", "test", "message"),
    [
        (many("a", 9), None, None, r"train\.csv: .* one class only: 'a'\n"),
        ([*many("a", 9), ("x", "b"), ("x", "a")], None, None, "one class only: 'a'.*2 before"),
        (
            many("a", 9) + many("b", 9),
            None,
            many("c", 2),
            r"test\.csv: labels that train lacks: 'c'; .*'a', 'b'",
        ),
        (many("a", 9) + many("b", 9), many("c", 2), None, r"validation\.csv: labels that train lacks: 'c'"),
        (
            [*many("a", 9), *many("b", 9), ("x", "c")],
            None,
            [("x", "c"), *many("a", 2, 50)],
            "train had 'c' before",
        ),
        (many("a", 2) + many("b", 2), None, many("a", 2) + many("b", 2), "no row is left"),
        (
            many("a", 9) + many("b", 9),
            many("a", 1, 50),
            many("a", 2, 50),
            "every row is also in the test file",
        ),
        ([("x", "a"), ("y", "b")], None, None, "too few"),
    ],
)
def test_splits_that_cannot_work_are_refused(
    tmp_path: Path, train: list[Row], validation: list[Row] | None, test: list[Row] | None, message: str
) -> None:
    config = DataConfig(
        train=write(tmp_path / "train.csv", train),
        validation=write(tmp_path / "validation.csv", validation) if validation else None,
        test=write(tmp_path / "test.csv", test) if test else None,
    )
    with pytest.raises(DataError, match=message):
        prepare_splits(config, None)


def test_classes_without_validation_rows_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", many("a", 50) + many("b", 50) + many("rare", 1))
    assert "validation has no row of: rare" in prepare_splits(DataConfig(train=path), None).audit.notes


def test_label_names_follow_the_model_and_never_permute() -> None:
    assert resolve_label_names({"b", "a"}, None) == ("a", "b")
    assert resolve_label_names({"10", "9", "2"}, None) == ("2", "9", "10")
    assert resolve_label_names({"a", "b"}, ("b", "a")) == ("b", "a")
    assert resolve_label_names({"1", "0"}, ("LABEL_0", "LABEL_1")) == ("0", "1")


@pytest.mark.parametrize(
    ("data", "model", "hint"),
    [
        ({"a", "b"}, ("a", "c"), "Rename"),
        ({"a", "b"}, ("a", "b", "c"), "Rename"),
        ({"a", "b"}, ("a", "a"), "Rename"),
        ({"a", "b"}, ("A", "B"), "capitals"),
        ({"0", "1"}, ("neg", "pos"), "names in place of the numbers"),
        ({"neg", "pos"}, ("LABEL_0", "LABEL_1"), "id2label"),
        ({"1", "2"}, ("LABEL_0", "LABEL_1"), "id2label"),
        ({"0", "1"}, ("LABEL_0", "LABEL_1", "LABEL_2"), "id2label"),
        ({"0", "1"}, ("LABEL_1", "LABEL_0"), "names in place of the numbers"),
    ],
)
def test_label_names_that_do_not_match_show_both(data: set[str], model: tuple[str, ...], hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_label_names(data, model, "train.csv")
    for name in data | set(model):
        assert repr(name) in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation_fraction": 0.0},
        {"validation_fraction": 1.0},
        {"text_column": ""},
        {"label_column": "text"},
    ],
)
def test_configuration_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        DataConfig(train=Path("train.csv"), **wrong)  # type: ignore[arg-type]


def test_a_data_set_refuses_labels_of_another_length() -> None:
    with pytest.raises(ValueError, match="2 texts but 1 labels"):
        Dataset(texts=("a", "b"), labels=(0,))


def test_importing_the_room_stays_light() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import pocketformer.compress.data; "
        "print([n for n in ('torch', 'pandas', 'pyarrow', 'numpy') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_unlabeled_texts_are_those_that_no_split_has(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", many("a", 20) + many("b", 20))
    test = write(tmp_path / "test.csv", [("a number 100", "a"), ("b number 100", "b")])
    more = tmp_path / "more.jsonl"
    texts = ["a number 3", "a  number 100", "something else", "something else", "", "one more"]
    more.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = prepare_splits(DataConfig(train=train, test=test, unlabeled=more), None)
    assert found.unlabeled == ("something else", "one more")
    assert "unlabeled: 2 texts dropped that are in train, validation or test" in found.audit.notes
    assert prepare_splits(DataConfig(train=train, test=test), None).unlabeled == ()
