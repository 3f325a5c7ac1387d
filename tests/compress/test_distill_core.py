"""The losses against plain numpy and against what their formulas promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketformer.compress.distill_core import hidden_state_loss, relation_loss, soft_label_loss


def _softmax(values: np.ndarray) -> np.ndarray:
    shifted = np.exp(values - values.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def test_soft_label_loss_is_the_scaled_divergence() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    for temperature in (1.0, 2.5):
        p, q = _softmax(teacher / temperature), _softmax(student / temperature)
        expected = temperature**2 * (p * np.log(p / q)).sum(-1).mean()
        found = soft_label_loss(torch.tensor(student), torch.tensor(teacher), temperature)
        assert float(found) == pytest.approx(expected, rel=1e-6)


def test_hidden_state_loss_ignores_padding() -> None:
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    expected = np.mean(
        [((student[b, s] - teacher[b, s]) ** 2).mean().item() for b, s in ((0, 0), (0, 1), (1, 0))]
    )
    assert float(hidden_state_loss(student, teacher, mask)) == pytest.approx(expected, rel=1e-5)
    teacher[0, 2] += 100
    assert float(hidden_state_loss(student, teacher, mask)) == pytest.approx(expected, rel=1e-5)


def test_relation_loss_against_loops() -> None:
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 8))
    mask = np.array([[1, 1, 1], [1, 1, 0]])
    heads, terms = 2, []
    for b in range(2):
        count = mask[b].sum()
        for h in range(heads):
            s = student[b, :count, h * 2 : h * 2 + 2]
            t = teacher[b, :count, h * 4 : h * 4 + 4]
            p, q = _softmax(t @ t.T / 2.0), _softmax(s @ s.T / np.sqrt(2.0))
            terms += list((p * np.log(p / q)).sum(-1))
    found = relation_loss(torch.tensor(student), torch.tensor(teacher), torch.tensor(mask), heads)
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-6)


def test_relation_loss_of_equal_vectors_is_zero() -> None:
    vectors = torch.randn(2, 5, 8)
    assert float(relation_loss(vectors, vectors, torch.ones(2, 5), 4)) == pytest.approx(0.0, abs=1e-6)


def test_relation_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="not divisible"):
        relation_loss(torch.randn(1, 2, 6), torch.randn(1, 2, 8), torch.ones(1, 2), 4)
