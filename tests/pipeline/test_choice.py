"""The choice among candidates follows the budget first, then speed, then size; and says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pocketformer.pipeline.choice import Choice, Tried, overflow_note
from pocketformer.pipeline.recipe import BudgetSection
from pocketformer.runtime.errors import InputError


def _choice(teacher: float | None = 0.95, **budget: float) -> Choice:
    return Choice(
        budget=BudgetSection(**({"max_drop": 0.01} | budget)),
        teacher_metric=teacher,
        tokenizer_mb=0.5,
        close=0.1,
        close_drop=0.25,
    )


def _tried(name: str, metric: float | None, speed: float, size: float) -> Tried:
    return Tried(
        name=name,
        precision="int8",
        path=Path(name),
        metric=metric,
        file_mb=size,
        latency_ms={"real": speed, "1x32": speed},
    )


def test_speed_is_the_geometric_mean_of_all_workloads() -> None:
    tried = Tried(name="a", precision="int8", latency_ms={"real": 1.0, "8x128": 16.0})
    assert tried.speed == pytest.approx(4.0)
    assert Tried(name="b", precision="int8").speed == float("inf")


@pytest.mark.parametrize(
    ("candidates", "taken"),
    [
        ([("fast", 0.95, 1.0, 9.0), ("slow", 0.95, 1.3, 3.0)], "fast"),
        ([("fast", 0.95, 1.0, 9.0), ("small", 0.949, 1.08, 5.0)], "small"),
        ([("fast", 0.95, 1.0, 9.0), ("small but worse", 0.946, 1.08, 5.0)], "fast"),
        ([("over budget", 0.93, 0.5, 5.0), ("within", 0.945, 1.0, 9.0)], "within"),
        ([("worst", 0.90, 0.5, 5.0), ("least drop", 0.93, 1.0, 9.0)], "least drop"),
    ],
    ids=["speed", "size when close", "accuracy when close", "budget", "nearest"],
)
def test_choice(candidates: list[tuple[str, float, float, float]], taken: str) -> None:
    choice = _choice()
    tried = [_tried(*values) for values in candidates]
    chosen = choice.choose(tried)
    assert chosen.name == taken
    reasons = {c.name: c.reason for c in choice.explain(tried, chosen)}
    assert len(set(reasons.values())) == len(reasons)
    assert all(reasons.values())


def test_size_and_latency_limits_are_kept() -> None:
    tried = [_tried("large", 0.95, 1.0, 7.6), _tried("small", 0.95, 2.0, 7.5)]
    assert _choice(max_size_mb=8.0).choose(tried).name == "small"
    assert _choice(max_latency_ms=1.5).choose(tried).name == "large"
    assert "8.1 MB with its tokenizer" in _choice(max_size_mb=8.0).excess(tried[0])


def test_without_labels_only_speed_and_size_speak() -> None:
    tried = [_tried("fast", None, 1.0, 9.0), _tried("small", None, 1.05, 5.0)]
    assert _choice(teacher=None).choose(tried).name == "small"


def test_answers_that_hold_here_only_stand_back_for_int8_ones_that_hold_everywhere() -> None:
    fast = replace(_tried("fast", 0.95, 1.0, 9.0), local="its products overflow")
    same = replace(_tried("same", 0.95, 1.0, 9.0), precision="int8-qdq")
    float32 = replace(_tried("float32", 0.95, 2.0, 40.0), precision="fp32")
    choice = _choice()
    assert [c.name for c in choice.finalists([fast, same])] == ["same"]
    chosen = choice.choose([fast, same, float32])
    assert chosen.name == "same"
    assert choice.explain([fast, same, float32], chosen)[0].reason == "its products overflow"
    assert overflow_note(chosen, [fast, same]) == (
        "on this processor products of 8-bit weights overflow 16 bits (x86 without VNNI): "
        "fast stood back for candidates that answer alike everywhere",
    )
    assert overflow_note(chosen, [same]) == ()
    # Without another int8 one it is taken, and that is said.
    slow = replace(same, metric=0.9)
    chosen = choice.choose([fast, slow, float32])
    assert chosen.name == "fast"
    assert "but its products overflow" in choice.explain([fast, slow, float32], chosen)[0].reason
    assert "2.00 times" in choice.explain([fast, slow, float32], chosen)[2].reason
    assert "also those of fast" in overflow_note(chosen, [fast, float32])[0]


def test_finalists_are_near_the_fastest_that_keeps_the_budget() -> None:
    tried = [
        _tried("over budget", 0.90, 0.1, 5.0),
        _tried("fastest", 0.95, 1.0, 9.0),
        _tried("near", 0.95, 1.2, 5.0),
        _tried("far", 0.95, 1.3, 5.0),
        Tried(name="broken", precision="int8", reason="could not be made"),
    ]
    assert [c.name for c in _choice().finalists(tried)] == ["fastest", "near"]
    assert _choice().finalists(tried[:1]) == []


def test_what_could_not_be_made_is_never_taken_and_keeps_its_reason() -> None:
    broken = Tried(name="broken", precision="int8", reason="could not be made: why")
    with pytest.raises(InputError, match="no candidate"):
        _choice().choose([broken])
    good = _tried("good", 0.95, 1.0, 9.0)
    assert _choice().explain([broken, good], good)[0].reason == "could not be made: why"
