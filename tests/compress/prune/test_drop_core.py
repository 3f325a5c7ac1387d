from __future__ import annotations

import numpy as np
import pytest

from pocketformer.compress.prune.drop_core import (
    divergence,
    expected_drop,
    fitting_temperature,
    probabilities,
)


def test_the_temperature_of_a_teacher_that_is_too_sure_is_found() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4000, 4)) * 1.5
    chances = probabilities(true, 1.0)
    labels = np.asarray([rng.choice(4, p=row) for row in chances])
    assert fitting_temperature(true, labels) == pytest.approx(1.0, rel=0.12)
    assert fitting_temperature(true * 3, labels) == pytest.approx(3.0, rel=0.12)


def test_the_expected_drop_is_the_mean_over_labels_drawn_from_the_teacher() -> None:
    rng = np.random.default_rng(1)
    teacher = rng.normal(size=(300, 3)) * 2
    student = teacher + rng.normal(size=teacher.shape) * 1.5
    chances = probabilities(teacher, 1.0)
    drops = []
    for _ in range(400):
        labels = np.asarray([rng.choice(3, p=row) for row in chances])
        drops.append((teacher.argmax(-1) == labels).mean() - (student.argmax(-1) == labels).mean())
    expected, error = expected_drop(teacher, student, 1.0)
    assert expected == pytest.approx(np.mean(drops), abs=4 * np.std(drops) / 20)
    # What the labels add to the noise is most of it.
    assert np.std(drops) > 1.5 * error


def test_a_model_that_answers_the_same_drops_nothing() -> None:
    logits = np.eye(3)
    assert expected_drop(logits, logits * 2, 1.0) == (0.0, 0.0)


def test_the_divergence_is_kullback_and_leiblers() -> None:
    from scipy.stats import entropy

    rng = np.random.default_rng(2)
    teacher, student = rng.normal(size=(50, 3)) * 30, rng.normal(size=(50, 3))
    rows = zip(probabilities(teacher, 1.0), probabilities(student, 1.0), strict=True)
    assert divergence(teacher, student) == pytest.approx(np.mean([entropy(p, q) for p, q in rows]))
    assert divergence(teacher, teacher + 5.0) == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(divergence(teacher * 100, student * 100))
