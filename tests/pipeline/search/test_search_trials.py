"""The rules of the search over made-up trials: nothing is measured here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.pipeline.recipe import BudgetSection
from pocketformer.pipeline.search.trials import (
    Rules,
    Trial,
    on_front,
    smoothed,
    steadied,
    worth_aiming,
    worth_polishing,
)


def _trial(
    depth: int,
    drop: float,
    ms: float,
    *,
    polished: bool = False,
    size: float = 5.0,
    divergence: float | None = None,
) -> Trial:
    return Trial(
        number=depth + 10 * polished,
        name=str(depth),
        depth=depth,
        polished=polished,
        vocabulary=0.7,
        layers=((2, 8),),
        metric=0.95 - drop,
        drop=drop,
        divergence=0.1 * depth if divergence is None else divergence,
        latency_ms={"real": ms, "8x128": ms * 20},
        speedup={"real": 8 / ms, "8x128": 8 / ms},
        file_mb=size,
        parameters=1000,
        candidate="dynamic-plain",
        seconds=60.0,
    )


def _rules(**budget: Any) -> Rules:
    return Rules(BudgetSection(**budget))


CHAIN = [_trial(1, 0.002, 4.0, size=9.0), _trial(2, 0.012, 2.0, size=7.0), _trial(3, 0.05, 1.0, size=5.0)]


def test_a_trial_is_read_back_as_it_was_written() -> None:
    assert Trial.from_dict(CHAIN[0].to_dict()) == CHAIN[0]
    with pytest.raises((TypeError, KeyError)):
        Trial.from_dict({"number": 1})


@pytest.mark.parametrize(
    ("budget", "taken", "kept"),
    [
        ({"max_drop": 0.01}, 1, True),
        ({"max_drop": 0.02}, 2, True),
        ({"max_drop": 0.1}, 3, True),
        ({"max_drop": None, "max_latency_ms": 2.5}, 2, True),
        ({"max_drop": None, "max_latency_ms": 41, "latency_workload": "8x128"}, 2, True),
        ({"max_drop": None, "max_size_mb": 6}, 3, True),
        # Nothing fits: the fastest that keeps the drop, or else what drops least.
        ({"max_drop": 0.02, "max_latency_ms": 1.5}, 2, False),
        ({"max_drop": 0.001}, 1, False),
    ],
)
def test_the_best_for_a_budget(budget: dict[str, Any], taken: int, kept: bool) -> None:
    judgement = _rules(**budget).judge(CHAIN)
    assert (judgement.trial.depth, judgement.kept) == (taken, kept)
    assert bool(judgement.missing) is not kept


def test_of_models_about_as_fast_the_most_accurate_is_taken() -> None:
    other = replace(
        CHAIN[1], number=12, depth=2.5, aimed=0.9, drop=0.006, latency_ms={"real": 2.1, "8x128": 42.0}
    )
    assert _rules(max_drop=0.02).judge([*CHAIN, other]).trial == other
    slower = replace(other, latency_ms={"real": 2.3, "8x128": 46.0})
    assert _rules(max_drop=0.02).judge([*CHAIN, slower]).trial == CHAIN[1]


def test_a_model_that_was_trained_on_stands_for_itself_before() -> None:
    """Whatever a small validation split says of the two."""
    polished = replace(CHAIN[1], number=12, polished=True, drop=0.014)
    assert _rules(max_drop=0.02).judge([*CHAIN, polished]).trial == polished
    aimed = replace(polished, number=13, aimed=0.9)  # of another model
    assert _rules(max_drop=0.013).judge([*CHAIN, aimed]).trial == CHAIN[1]
    over = _rules(max_drop=0.013).judge([*CHAIN, polished])
    assert (over.trial, over.kept) == (CHAIN[0], True)


def test_what_is_missing_is_told_with_both_numbers() -> None:
    (missing,) = _rules(max_drop=0.02, max_latency_ms=30, latency_workload="8x128").judge(CHAIN).missing
    assert missing == "takes 40.00 ms on 8x128, 30 are allowed"
    with pytest.raises(ValueError, match="no trial"):
        _rules().judge([])


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(-0.05, 0.2)), min_size=1, max_size=6))
def test_drops_are_in_proportion_to_the_divergence(figures: list[tuple[float, float]]) -> None:
    """No other factor, of many, leaves less of what was counted."""
    trials = [_trial(i, drop, 1.0, divergence=k) for i, (k, drop) in enumerate(figures, start=1)]
    found = smoothed(trials)
    factors = [t.judged_drop / t.divergence for t in found]
    assert factors == pytest.approx([factors[0]] * len(factors))
    assert factors[0] >= 0

    def left(factor: float) -> float:
        return sum((factor * k - drop) ** 2 for k, drop in figures)

    assert left(factors[0]) <= min(left(factor) for factor in np.linspace(0, 30, 3001)) + 1e-6


def test_a_lucky_trial_is_judged_by_how_far_it_is_from_the_teacher() -> None:
    """What answers more unlike the teacher cannot drop less; training to the end brings a model nearer again."""
    trials = smoothed(
        [
            _trial(1, 0.01, 4.0),
            _trial(2, 0.0, 2.0),
            _trial(3, 0.04, 1.0),
            _trial(3, 0.0, 1.0, polished=True, divergence=0.1),
        ]
    )
    factor = (0.1 * 0.01 + 0.3 * 0.04) / (0.1**2 + 0.2**2 + 0.3**2 + 0.1**2)
    assert [t.judged_drop for t in trials] == pytest.approx(
        [0.1 * factor, 0.2 * factor, 0.3 * factor, 0.1 * factor]
    )
    assert trials[1].drop == 0.0
    assert smoothed([_trial(1, -0.02, 1.0)])[0].judged_drop == 0.0


def test_times_are_of_one_moment_and_of_the_structure() -> None:
    slow_minute = _trial(2, 0.0, 4.0)  # twice its time, and the teacher's too
    slow_minute = replace(slow_minute, speedup={"real": 4.0, "8x128": 4.0})
    twin = replace(_trial(2, 0.0, 2.5, polished=True), speedup={"real": 3.2, "8x128": 3.2})
    other = replace(_trial(1, 0.0, 4.0), layers=((4, 8),))
    found = steadied([other, slow_minute, twin])
    assert found[0].latency_ms == other.latency_ms
    assert found[1].latency_ms == found[2].latency_ms == pytest.approx({"real": 2.0, "8x128": 40.0})
    assert found[1].speedup == {"real": 4.0, "8x128": 4.0}
    assert steadied(found)[1].latency_ms == pytest.approx(found[1].latency_ms)
    assert steadied([]) == []


def test_the_front() -> None:
    beaten = _trial(4, 0.06, 1.1)
    assert on_front([*CHAIN, beaten]) == [True, True, True, False]


def _hope(trial: Trial) -> float:
    return min(0.03, 0.6 * trial.judged_drop)


def test_the_fastest_that_may_come_back_is_trained_first() -> None:
    rules = _rules(max_drop=0.02)
    first = worth_polishing(CHAIN, rules, _hope)
    assert first == CHAIN[2]
    failed = [*CHAIN, replace(CHAIN[2], polished=True, number=13, drop=0.03)]
    assert worth_polishing(failed, rules, _hope) == CHAIN[1]
    kept = [*failed, replace(CHAIN[1], polished=True, number=12, drop=0.01)]
    assert worth_polishing(kept, rules, _hope) is None


def test_nothing_slower_than_what_keeps_the_budget_is_trained() -> None:
    kept = [*CHAIN, replace(CHAIN[2], polished=True, number=13, drop=0.01)]
    assert worth_polishing(kept, _rules(max_drop=0.02), _hope) is None


def test_without_hope_the_one_that_drops_least_is_trained() -> None:
    assert worth_polishing(CHAIN, _rules(max_drop=0.0), lambda trial: 0.0) == CHAIN[0]
    done = [*CHAIN, replace(CHAIN[0], polished=True, number=11)]
    assert worth_polishing(done, _rules(max_drop=0.0), lambda trial: 0.0) is None


def test_without_a_limit_of_the_drop_the_slowest_that_is_fast_enough_is_trained() -> None:
    rules = _rules(max_drop=None, max_latency_ms=2.5)
    assert worth_polishing(CHAIN, rules, _hope) == CHAIN[1]
    assert worth_polishing([*CHAIN, replace(CHAIN[1], polished=True)], rules, _hope) is None
    assert worth_polishing(CHAIN, _rules(max_drop=None, max_latency_ms=0.1), _hope) is None


@pytest.mark.parametrize(
    ("budget", "source", "share"),
    [
        # 3 takes 20 ms and 2 takes 40: between them lies what 30 ms allow.
        ({"max_drop": 0.02, "max_latency_ms": 30.0, "latency_workload": "8x128"}, 2, 0.95 * 30 / 40),
        ({"max_drop": None, "max_latency_ms": 1.5}, 2, 0.95 * 1.5 / 2),
        # The first is fast enough by far: from the model that the search began with, which takes 8 ms.
        ({"max_drop": None, "max_latency_ms": 7.0}, None, 0.95 * 7 / 8),
        # None is fast enough: on from the last.
        ({"max_drop": 0.02, "max_latency_ms": 0.6}, 3, 0.95 * 0.6),
    ],
)
def test_a_cut_is_aimed_at_the_latency_between_two_strokes(
    budget: dict[str, Any], source: int | None, share: float
) -> None:
    found = worth_aiming(CHAIN, _rules(**budget))
    assert found is not None
    assert (None if found[0] is None else found[0].depth) == source
    assert found[1] == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize(
    "budget",
    [
        {"max_drop": 0.02},  # no latency to aim at
        {"max_drop": 0.02, "max_latency_ms": 3.0},  # 2 keeps all of it
        {"max_drop": None, "max_latency_ms": 1.05},  # 3 is near the limit already
        {"max_drop": 0.02, "max_latency_ms": 0.3},  # more than one cut can take
        {"max_drop": 0.02, "max_latency_ms": 3.0, "latency_workload": "1x128"},  # not measured
    ],
)
def test_nothing_is_aimed_at(budget: dict[str, Any]) -> None:
    assert worth_aiming(CHAIN, _rules(**budget)) is None


def test_what_was_aimed_or_polished_is_no_part_of_the_chain() -> None:
    rules = _rules(max_drop=None, max_latency_ms=1.5)
    others = [
        replace(CHAIN[1], number=4, depth=2.5, aimed=0.7, latency_ms={"real": 1.4, "8x128": 28.0}),
        replace(CHAIN[2], number=5, polished=True),
    ]
    assert worth_aiming([*CHAIN, *others], rules) == worth_aiming(CHAIN, rules)
