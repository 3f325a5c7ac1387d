"""How much accuracy a changed model is expected to lose, from the probabilities of the model that it was: numbers only.

Let p be the probabilities of the teacher for a text, calibrated, so that an answer a is right with probability p_a. A
student that answers s where the teacher answers t then loses p_t - p_s in expectation. The mean over texts estimates
the drop without the noise of the labels (Rao-Blackwell), and is never negative: no credit is given for lucky flips.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
# From teachers twice too hesitant to eight times too sure.
_TEMPERATURES = np.geomspace(0.5, 8.0, 57)


def probabilities(logits: Floats, temperature: float) -> npt.NDArray[np.float64]:
    """softmax(logits / temperature), [texts, labels]."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def fitting_temperature(logits: Floats, labels: npt.NDArray[np.int64]) -> float:
    """The temperature at which the labels are likeliest, of a grid from 0.5 to 8 (Guo et al. 2017, section 4.2)."""
    rows = np.arange(len(labels))
    losses = [
        -np.log(np.maximum(probabilities(logits, t)[rows, labels], 1e-12)).mean() for t in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def divergence(teacher: Floats, student: Floats) -> float:
    """Mean Kullback-Leibler divergence of the student's probabilities from the teacher's, in nats.

    Logits [texts, labels] of the same texts. It says on fewer texts which of two students is nearer to the teacher than
    counting right answers does: every text tells something, not only those where an answer changes.
    """
    before, after = (
        of - of.max(axis=-1, keepdims=True) for of in (np.asarray(teacher, float), np.asarray(student, float))
    )
    before, after = (of - np.log(np.exp(of).sum(axis=-1, keepdims=True)) for of in (before, after))
    return float((np.exp(before) * (before - after)).sum(axis=-1).mean())


def expected_drop(teacher: Floats, student: Floats, temperature: float) -> tuple[float, float]:
    """The expected fall of accuracy and its standard error; logits [texts, labels] of the same texts."""
    before, after = teacher.argmax(axis=-1), student.argmax(axis=-1)
    known = probabilities(teacher, temperature)
    rows = np.arange(len(known))
    losses = known[rows, before] - known[rows, after]
    return float(losses.mean()), float(losses.std() / np.sqrt(len(losses)))
