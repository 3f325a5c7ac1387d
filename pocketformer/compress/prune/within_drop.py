"""How small a model may get before it drops too much, where nothing will be trained: bisection over what it costs.

A few hundred validation rows tell a drop of one point badly: with 438 rows a point is four rows, and chance alone moves
the difference of two models by two or three of them. So a model is judged twice on them, and must pass both times:

``drop``      what the metric falls by, from the labels: unbiased, but noisy.
``expected``  what it is expected to fall by, from the teacher's own probabilities: where student and teacher disagree,
              the teacher's answer is right with probability p(teacher's answer) and the student's with p(student's).
              The mean difference over all rows has a far smaller variance than counting which of them was right, for
              it replaces the label by its expectation. The probabilities are tempered first until they fit the labels
              (Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599), so that a teacher that
              is too sure of itself is not believed. One standard error is added.

The first is what the budget speaks of, in whatever metric; the second, always of accuracy, guards against a lucky
validation split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pocketformer.compress.context import StepContext
from pocketformer.compress.encoding import TextEncoding, predict_logits
from pocketformer.compress.prune.drop_core import expected_drop, fitting_temperature
from pocketformer.runtime.errors import RecipeError
from pocketformer.runtime.metrics import metric_by_name, score

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SMALLEST_SHARE = 0.2
TRIALS = 5  # leaves the limit known to 2.5% of the whole model's cost


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is known of a trial: its share of the cost and, on validation, see above; ``flips`` is a share of rows."""

    share: float
    drop: float | None
    expected: float
    flips: float
    passes: bool

    def metrics(self) -> dict[str, float]:
        """The figures of a step."""
        found = {"expected_drop": self.expected, "validation_flips": self.flips}
        return found if self.drop is None else {**found, "validation_drop": self.drop}


@dataclass(frozen=True, kw_only=True)
class Found:
    """The smallest model that passed, its figures, all trials in their order, and a sentence about it."""

    model: PreTrainedModel
    taken: Judged
    trials: tuple[Judged, ...]
    verdict: str


class Judge:
    """Compares models with the teacher on the validation texts, which no model was made from."""

    def __init__(self, teacher: PreTrainedModel, encoding: TextEncoding, context: StepContext) -> None:
        """Raises ``RecipeError`` where no drop is given to keep."""
        validation = context.splits.validation
        if context.max_drop is None:
            raise RecipeError(
                "how small a model may get is judged by its drop, and none is given",
                hint="Give --max-drop, or a share of the cost that may stay.",
            )
        self._limit = context.max_drop
        self._pad_id = encoding.pad_id
        self._rows = encoding.encode(validation.texts)
        self._classes = len(context.splits.label_names)
        self._metric = context.metric
        self._teacher = predict_logits(teacher, self._rows, self._pad_id)
        labelled = validation.labels is not None and context.metric != "agreement"
        self._labels = np.asarray(validation.labels, dtype=np.int64) if labelled else None
        self._temperature = 1.0 if self._labels is None else fitting_temperature(self._teacher, self._labels)
        self.whole = Judged(
            share=1.0, drop=None if self._labels is None else 0.0, expected=0.0, flips=0.0, passes=True
        )
        self.teacher = teacher

    def judge(self, model: PreTrainedModel, share: float) -> Judged:
        """Score a trial's model."""
        logits = predict_logits(model, self._rows, self._pad_id)
        expected, error = expected_drop(self._teacher, logits, self._temperature)
        drop = self._drop(logits)
        worst = max(expected + error, drop or 0.0)
        return Judged(
            share=share,
            drop=drop,
            expected=expected,
            flips=float((logits.argmax(-1) != self._teacher.argmax(-1)).mean()),
            passes=worst <= self._limit,
        )

    def _drop(self, logits: npt.NDArray[np.floating[Any]]) -> float | None:
        if self._labels is None:
            return None
        sign = 1.0 if metric_by_name(self._metric).higher_is_better else -1.0
        before, after = (
            score(self._metric, self._labels, of.argmax(-1), self._classes) for of in (self._teacher, logits)
        )
        return sign * (before - after)


def search_share(
    attempt: Callable[[float], PreTrainedModel],
    judge: Judge,
    *,
    smallest: float = 0.0,
    on_trial: Callable[[int], None] = lambda _: None,
) -> Found:
    """The smallest share of the cost whose model passes, by bisection; the whole model where none does.

    ``attempt`` makes the model of a share, which is above ``smallest``; ``on_trial`` hears how many were made.
    """
    low, high = max(_SMALLEST_SHARE, smallest), 1.0
    model, taken = judge.teacher, judge.whole
    trials: list[Judged] = []
    while len(trials) < TRIALS:
        share = (low + high) / 2
        candidate = attempt(share)
        judged = judge.judge(candidate, share)
        trials.append(judged)
        if judged.passes:
            model, taken, high = candidate, judged, share
        else:
            low = share
        on_trial(len(trials))
    verdict = (
        f"taken: {taken.share:.0%} of the cost"
        if taken.share < 1
        else "nothing smaller keeps the drop: nothing was cut"
    )
    return Found(model=model, taken=taken, trials=tuple(trials), verdict=verdict)


def describe(trial: Judged) -> str:
    """A trial in a line."""
    drop = "" if trial.drop is None else f"drop on validation {trial.drop * 100:.1f} points, "
    return (
        f"{trial.share:.0%} of the cost: {drop}expected {trial.expected * 100:.1f}, "
        f"{trial.flips:.1%} other answers{'' if trial.passes else ': too many'}"
    )
