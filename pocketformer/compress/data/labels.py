"""Matches the data's label names to the model's, and never permutes them in silence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pocketformer.runtime.errors import DataError, ModelError

_GENERIC = re.compile(r"LABEL_(\d+)")


def resolve_label_names(
    data_labels: set[str], model_label_names: Sequence[str] | None, where: str = "the data"
) -> tuple[str, ...]:
    """The label names, in the order of the model's outputs.

    - No model names (its head will be made for this data): the data's names, whole numbers by value and
      names by code point.
    - The same set: the model's order.
    - A model whose names are the generic LABEL_0, LABEL_1, ... says nothing about meaning. It is accepted
      only when the data's labels are the whole numbers 0..n-1 for its n outputs, which name the outputs
      directly; the data's numbers become the names.
    - Anything else is a ``ModelError`` that shows both. That includes a model with real names and data with
      numbers: that the numbers follow the model's order is likely but not certain.
    """
    ordered = _in_order(data_labels)
    if model_label_names is None:
        return ordered
    names = tuple(model_label_names)
    if len(set(names)) == len(names) and set(names) == data_labels:
        return names
    numbers = tuple(str(index) for index in range(len(names)))
    generic = [_GENERIC.fullmatch(name) for name in names]
    is_generic = all(match and match[1] == number for match, number in zip(generic, numbers, strict=True))
    if is_generic and ordered == numbers:
        return numbers
    both = f"{where} has the labels {_shown(ordered)}, the model has {_shown(names)}"
    if is_generic:
        hint = (
            "The model's names say nothing about their meaning: write the real names into id2label of its "
            "config.json, in the order of its outputs, or fine-tune a head for this data."
        )
    elif {name.casefold() for name in names} == {label.casefold() for label in data_labels}:
        hint = "They differ only in capitals: write them alike."
    elif ordered == numbers:
        hint = "Write the names in place of the numbers, so that no order has to be guessed."
    else:
        hint = "Rename the labels in the data, or fine-tune a head for this data."
    raise ModelError(both, hint=hint)


def label_indices(labels: Sequence[str], label_names: Sequence[str], where: str) -> tuple[int, ...]:
    """The index of each label in ``label_names``; ``DataError`` with the file's name for an unknown one."""
    index = {name: position for position, name in enumerate(label_names)}
    unknown = sorted(set(labels) - set(index))
    if unknown:
        raise DataError(
            f"{where}: unknown labels {_shown(unknown)}; known are {_shown(tuple(label_names))}",
            hint="Labels are compared letter by letter.",
        )
    return tuple(index[label] for label in labels)


def _in_order(labels: set[str]) -> tuple[str, ...]:
    if all(re.fullmatch(r"-?[0-9]+", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _shown(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:20])
    return f"[{listed}, ...] ({len(names)})" if len(names) > 20 else f"[{listed}]"
