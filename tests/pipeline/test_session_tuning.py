"""Settings are changed only when they win clearly, and win again; what a recipe holds is taken as it is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pocketformer.pipeline.session_tuning import MARGIN, alternatives, chosen_settings, tune
from pocketformer.runtime.errors import RecipeError
from pocketformer.runtime.manifest import SessionSettings

USUAL = SessionSettings(intra_op_threads=2)
Figures = Mapping[str, tuple[float, float]]


class Clock:
    """Plays the measuring: a table of (real, 8x128) for each setting, one table a measurement."""

    def __init__(self, *tables: Figures) -> None:
        self.tables = list(tables)
        self.asked: list[dict[str, SessionSettings]] = []

    def __call__(self, settings: Mapping[str, SessionSettings], longer: float) -> dict[str, dict[str, float]]:
        table = self.tables[len(self.asked)]
        self.asked.append(dict(settings))
        return {
            name: dict(zip(("real", "8x128"), table.get(name, (1.0, 10.0)), strict=True)) for name in settings
        }


def test_the_list_is_short_and_each_changes_one_thing() -> None:
    tried = alternatives("onnxruntime", 8, threads_fixed=False)
    assert [t.name for t in tried[:2]] == ["4 threads", "1 thread"]
    assert all(len(t.changes) == 1 for t in tried)
    fixed = alternatives("onnxruntime", 8, threads_fixed=True)
    assert not any("intra_op_threads" in t.changes for t in fixed)
    assert [t.name for t in alternatives("openvino", 2, threads_fixed=False)] == ["1 thread"]
    assert alternatives("openvino", 1, threads_fixed=False) == ()
    assert tune(USUAL, (), Clock()) == ({}, [])


def test_what_wins_by_little_is_left_and_measured_once() -> None:
    clock = Clock({"no spinning": (0.98, 9.8)})
    changes, tried = tune(USUAL, alternatives("onnxruntime", 2, threads_fixed=False), clock)
    assert changes == {}
    assert len(clock.asked) == 1
    assert clock.asked[0]["no spinning"] == SessionSettings(intra_op_threads=2, spinning=False)
    assert not any(t.taken for t in tried)
    assert "2.0% faster" in next(t.reason for t in tried if t.name == "no spinning")
    assert "slower than the usual" in next(t.reason for t in tried if t.name == "no memory arena")


@pytest.mark.parametrize(
    ("again", "taken"),
    [((0.9, 9.0), True), ((0.99, 9.9), False), ((0.5, 10.5), False)],
    ids=["wins again", "was luck", "one workload pays for another"],
)
def test_a_winner_has_to_win_twice_and_everywhere(again: tuple[float, float], taken: bool) -> None:
    clock = Clock({"no memory arena": (0.9, 9.0)}, {"no memory arena": again})
    changes, tried = tune(USUAL, alternatives("onnxruntime", 2, threads_fixed=True), clock)
    assert changes == ({"memory_arena": False} if taken else {})
    assert len(clock.asked) == 2
    assert [t.name for t in tried if t.taken] == (["no memory arena"] if taken else [])
    assert "once more" in next(t.reason for t in tried if t.name == "no memory arena")


def test_winners_are_tried_together() -> None:
    both = "no memory arena and no spinning"
    clock = Clock(
        {"no memory arena": (0.8, 8.0), "no spinning": (0.9, 9.0)},
        {"no memory arena": (0.8, 8.0), both: (0.7, 7.0)},
    )
    changes, tried = tune(USUAL, alternatives("onnxruntime", 2, threads_fixed=True), clock)
    assert changes == {"spinning": False, "memory_arena": False}
    assert [t.name for t in tried if t.taken] == [both]
    row = tried[-1].to_dict("dynamic-fused")
    assert (row["name"], row["stage"], row["taken"]) == (f"dynamic-fused, {both}", "session", True)
    assert row["latency_ms"] == {"real": 0.7, "8x128": 7.0}


def test_a_recipe_s_choice_is_checked() -> None:
    assert chosen_settings({}) is None
    assert chosen_settings({"session": {}}) == {}
    assert chosen_settings({"session": {"spinning": False, "memory_arena": True}}) == {"spinning": False}
    for wrong, named in (
        ({"spining": False}, "did you mean 'spinning'"),
        ({"spinning": "perhaps"}, "spinning"),
        ({"graph_optimization": "fastest"}, "graph_optimization"),
    ):
        with pytest.raises(RecipeError, match=named):
            chosen_settings({"session": wrong})
    assert 0 < MARGIN < 0.1
