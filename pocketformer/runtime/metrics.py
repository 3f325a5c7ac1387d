"""Classification metrics in numpy, with intervals; labels and predictions are class indices.

Every metric here depends on three counts per class alone: how often the class is right (``correct``), how
often it is the truth (``support``), how often it is predicted (``predicted``). So a bootstrap need not
draw items: drawing n items with replacement gives counts of (label, prediction) pairs that follow a
multinomial distribution, which is drawn directly, for all resamples at once (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, section 6). For a paired comparison the triples (label, baseline,
candidate) are drawn, which keeps the two systems on the same resample.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional, TypedDict, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketformer.runtime.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = Union[Sequence[int], NDArray[np.integer]]
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class ClassCounts:
    """Counts per class, each float64 [..., classes]; leading axes are resamples."""

    correct: Floats
    support: Floats
    predicted: Floats


@dataclass(frozen=True)
class Metric:
    """A metric by its name in recipes and reports; ``function`` turns counts [..., classes] into [...].

    ``bounded`` metrics lie in [-1, 1], so a budget of 1% means 0.01 in absolute terms.
    """

    name: str
    function: Callable[[ClassCounts], Floats]
    higher_is_better: bool = True
    bounded: bool = True
    classes: Optional[int] = None


class ClassRow(TypedDict):
    """One class in a per-class table; undefined ratios are 0."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, 0 where the denominator is 0."""
    safe = np.where(denominator == 0.0, 1.0, denominator)
    result: Floats = np.where(denominator == 0.0, 0.0, numerator / safe)
    return result


def _accuracy(counts: ClassCounts) -> Floats:
    return _ratio(counts.correct.sum(-1), counts.support.sum(-1))


def _f1_each(counts: ClassCounts) -> Floats:
    return _ratio(2.0 * counts.correct, counts.support + counts.predicted)


def _f1(counts: ClassCounts) -> Floats:
    result: Floats = _f1_each(counts)[..., 1]
    return result


def _f1_macro(counts: ClassCounts) -> Floats:
    """Mean over the classes that occur in labels or predictions, as scikit-learn does by default."""
    occurs = (counts.support + counts.predicted) > 0.0
    return _ratio(_f1_each(counts).sum(-1), occurs.sum(-1).astype(np.float64))


def _matthews(counts: ClassCounts) -> Floats:
    """Gorodkin 2004, the correlation of K classes; 0 when labels or predictions are all of one class."""
    total = counts.support.sum(-1)
    covariance = counts.correct.sum(-1) * total - (counts.support * counts.predicted).sum(-1)
    labels = total**2 - (counts.support**2).sum(-1)
    predictions = total**2 - (counts.predicted**2).sum(-1)
    return _ratio(covariance, np.sqrt(labels * predictions))


METRICS: tuple[Metric, ...] = (
    Metric("accuracy", _accuracy),
    Metric("f1", _f1, classes=2),
    Metric("f1_macro", _f1_macro),
    Metric("matthews", _matthews),
    # Accuracy where the labels are a teacher's answers; named apart so that nobody reads it as accuracy.
    Metric("agreement", _accuracy),
)


def metric_by_name(name: str) -> Metric:
    """The metric called ``name``; ``InputError`` with the nearest name when there is none."""
    for metric in METRICS:
        if metric.name == name:
            return metric
    names = [metric.name for metric in METRICS]
    near = difflib.get_close_matches(str(name), names, n=1)
    suggestion = f"Did you mean {near[0]!r}? " if near else ""
    raise InputError(f"there is no metric {name!r}", hint=f"{suggestion}Metrics: {', '.join(names)}.")


def check_metric(name: str, num_labels: int) -> Metric:
    """The metric called ``name``, if it can score ``num_labels`` classes (0: not known yet).

    Raises ``InputError`` for an unknown metric, and for "f1" with other than two classes.
    """
    metric = metric_by_name(name)
    if metric.classes is not None and num_labels not in (0, metric.classes):
        raise InputError(
            f"{name} is for {metric.classes} classes, with class 1 the positive one; here are {num_labels}",
            hint="Use f1_macro, accuracy or matthews.",
        )
    return metric


def score(metric_name: str, labels: Labels, predictions: Labels, num_labels: int) -> float:
    """The metric's value over all items.

    Raises ``InputError`` for an unknown metric, no items, different lengths, an index outside
    [0, num_labels), or "f1" with other than two classes.
    """
    metric = check_metric(metric_name, num_labels)
    (truth, guess), weights = _cells(_columns(num_labels, labels=labels, predictions=predictions))
    return float(metric.function(_counts(truth, guess, weights, num_labels)))


def accuracy(labels: Labels, predictions: Labels, num_labels: Optional[int] = None) -> float:
    """Share of items whose prediction is their label. Errors as ``score``."""
    return score("accuracy", labels, predictions, _classes(num_labels, labels, predictions))


def f1(labels: Labels, predictions: Labels, num_labels: int = 2) -> float:
    """F1 of class 1 against class 0. Errors as ``score``."""
    return score("f1", labels, predictions, num_labels)


def f1_macro(labels: Labels, predictions: Labels, num_labels: Optional[int] = None) -> float:
    """Mean F1 of the classes that occur in labels or predictions. Errors as ``score``."""
    return score("f1_macro", labels, predictions, _classes(num_labels, labels, predictions))


def matthews(labels: Labels, predictions: Labels, num_labels: Optional[int] = None) -> float:
    """Matthews correlation coefficient of two or more classes. Errors as ``score``."""
    return score("matthews", labels, predictions, _classes(num_labels, labels, predictions))


def flips(baseline: Labels, candidate: Labels) -> int:
    """How many items the candidate answers otherwise than the baseline, right or wrong."""
    first, second = _same_length(baseline=baseline, candidate=candidate)
    return int((first != second).sum())


def agreement(baseline: Labels, candidate: Labels) -> float:
    """Share of items that both answer alike, in [0, 1]."""
    return 1.0 - flips(baseline, candidate) / len(candidate)


def per_class(labels: Labels, predictions: Labels, label_names: Sequence[str]) -> list[ClassRow]:
    """One row a class, in the order of ``label_names``. Errors as ``score``."""
    classes = len(label_names)
    (truth, guess), weights = _cells(_columns(classes, labels=labels, predictions=predictions))
    counts = _counts(truth, guess, weights, classes)
    precision = _ratio(counts.correct, counts.predicted)
    recall = _ratio(counts.correct, counts.support)
    each = _f1_each(counts)
    return [
        ClassRow(
            label=name,
            support=int(counts.support[index]),
            precision=float(precision[index]),
            recall=float(recall[index]),
            f1=float(each[index]),
        )
        for index, name in enumerate(label_names)
    ]


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927): honest also where all or none succeed.

    Raises ``InputError`` unless 0 <= successes <= n and n > 0.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise InputError(f"{successes} successes of {n} is no share", hint="Give 0 <= successes <= n, n > 0.")
    share = successes / n
    spread = _Z95**2 / n
    middle = (share + spread / 2.0) / (1.0 + spread)
    half = _Z95 / (1.0 + spread) * math.sqrt(share * (1.0 - share) / n + spread / (4.0 * n))
    # At the ends the formula is exactly 0 or 1, which rounding misses.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return low, high


def bootstrap_interval(
    metric_name: str,
    labels: Labels,
    predictions: Labels,
    num_labels: int,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """95% percentile bootstrap interval of the metric; the same seed gives the same interval.

    Resamples in which a class does not occur count like any other. Where every item is right there is
    nothing to vary and the interval is a point: use ``wilson_interval`` for accuracy. Errors as ``score``.
    """
    metric = check_metric(metric_name, num_labels)
    (truth, guess), weights = _cells(_columns(num_labels, labels=labels, predictions=predictions))
    draws = _draw(weights, samples, seed)
    return _percentiles(metric.function(_counts(truth, guess, draws, num_labels)))


def paired_drop(
    metric_name: str,
    labels: Labels,
    baseline: Labels,
    candidate: Labels,
    num_labels: int,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, tuple[float, float]]:
    """How much worse the candidate is than the baseline, with its 95% paired bootstrap interval.

    Positive means worse, whichever way the metric points, in the metric's own units. Errors as ``score``.
    """
    metric = check_metric(metric_name, num_labels)
    columns = _columns(num_labels, labels=labels, baseline=baseline, candidate=candidate)
    (truth, first, second), weights = _cells(columns)
    sign = 1.0 if metric.higher_is_better else -1.0

    def drop(times: Floats) -> Floats:
        before = metric.function(_counts(truth, first, times, num_labels))
        after = metric.function(_counts(truth, second, times, num_labels))
        result: Floats = sign * (before - after)
        return result

    return float(drop(weights)), _percentiles(drop(_draw(weights, samples, seed)))


def _same_length(**columns: Labels) -> list[Ints]:
    """The columns as int64 [n], all of the same n > 0; errors name the column."""
    arrays = []
    for name, values in columns.items():
        array = np.asarray(values)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InputError(
                f"{name} must be a list of class indices", hint="Give whole numbers, one an item."
            )
        arrays.append(array.astype(np.int64))
    sizes = {name: len(array) for name, array in zip(columns, arrays)}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        shown = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise InputError(f"cannot compare {shown}", hint="Give as many of each, and at least one.")
    return arrays


def _columns(num_labels: int, **columns: Labels) -> list[Ints]:
    arrays = _same_length(**columns)
    for name, array in zip(columns, arrays):
        if array.min() < 0 or array.max() >= num_labels:
            raise InputError(
                f"{name} holds class {int(array.min() if array.min() < 0 else array.max())}, "
                f"but the classes are 0 to {num_labels - 1}",
                hint="Labels, predictions and num_labels must be of the same task.",
            )
    return arrays


def _classes(num_labels: Optional[int], *columns: ArrayLike) -> int:
    if num_labels is not None:
        return num_labels
    return max(2, *(int(np.max(column)) + 1 if np.size(column) else 0 for column in columns))


def _counts(labels: Ints, predictions: Ints, weights: Floats, classes: int) -> ClassCounts:
    """Counts per class over cells of (label, prediction) that occur ``weights`` [..., cells] times."""
    truth = np.eye(classes)[labels]
    guess = np.eye(classes)[predictions]
    return ClassCounts(correct=weights @ (truth * guess), support=weights @ truth, predicted=weights @ guess)


def _cells(columns: Sequence[Ints]) -> tuple[list[Ints], Floats]:
    """The distinct items of ``columns``, as columns, and how often each occurs [cells]."""
    rows, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
    return list(rows), counts.astype(np.float64)


def _draw(weights: Floats, samples: int, seed: int) -> Floats:
    """How often each cell occurs in every resample: [samples, cells], each row with the same sum."""
    if samples < 1:
        raise InputError(f"samples is {samples}", hint="Use at least 1 sample; 2000 is usual.")
    total = weights.sum()
    draws = np.random.default_rng(seed).multinomial(int(total), weights / total, size=samples)
    return draws.astype(np.float64)


def _percentiles(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
