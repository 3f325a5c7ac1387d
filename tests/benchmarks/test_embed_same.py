"""Equal answers: what counts as a difference between a host and the reference."""

from __future__ import annotations

from typing import Any

import pytest
from evidence.embed_same import compare


def _answer(
    logits: list[float], ids: tuple[int, ...] = (2, 7, 3), label: str | None = None
) -> dict[str, Any]:
    best = max(range(len(logits)), key=logits.__getitem__)
    return {"input_ids": list(ids), "logits": logits, "label": label or "abc"[best]}


REFERENCE = [_answer([3.0, 1.0, 0.0]), _answer([0.0, 1.0, 1.04])]


def test_equal_answers_differ_in_nothing() -> None:
    found = compare(REFERENCE, [dict(answer) for answer in REFERENCE], 0.0)
    assert (found.texts, found.wrong, found.largest) == (2, 0, 0.0)


def test_small_differences_are_allowed_and_may_turn_a_tie() -> None:
    other = [_answer([2.97, 1.0, 0.0]), _answer([0.0, 1.02, 1.0])]
    found = compare(REFERENCE, other, 0.05)
    assert found.wrong == 0
    assert found.largest == pytest.approx(0.04)
    assert compare(REFERENCE, other, 0.0).logits == 2


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        (_answer([3.0, 1.0, 0.0], ids=(2, 8, 3)), (1, 0, 0)),
        (_answer([3.0, 1.2, 0.0]), (0, 1, 0)),
        (_answer([3.0, 1.0, float("nan")]), (0, 1, 0)),
        (_answer([3.0, 1.0]), (0, 1, 0)),
        (_answer([3.0, 1.0, 0.0], label="b"), (0, 0, 1)),
    ],
)
def test_every_step_counts_its_own(other: dict[str, Any], counts: tuple[int, int, int]) -> None:
    found = compare(REFERENCE[:1], [other], 0.05)
    assert (found.ids, found.logits, found.labels) == counts
    assert found.wrong == 1


def test_a_missing_answer_is_no_answer() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare(REFERENCE, REFERENCE[:1], 0.1)
