"""The search on a tiny model: its trials are real, cut, trained, exported, quantized and timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pocketformer.compress.models import load_classifier, structure_of
from pocketformer.pipeline.context import SilentListener
from pocketformer.pipeline.latency import Tabled
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.run import RunResult, run
from pocketformer.pipeline.search.choosing import choose_recipe
from pocketformer.pipeline.search.trials import Judgement, Rules
from pocketformer.runtime.errors import InputError, RecipeError
from pocketformer.runtime.model import load
from pocketformer.targets.latency_table import BlockCosts, Curve, LatencyTable

_BRIEF = {"augmentation": {"copies": 1}, "training": {"epochs": 1, "batch_size": 16}}
_SEARCH = {
    "strokes": [{"heads": 2, "ffn": 32}, {"layers": 2, "ffn": 16}],
    "recovery": _BRIEF,
    "polish": {**_BRIEF, "training": {"epochs": 2, "batch_size": 16}},
    "vocabularies": [0.9, 0.6],
    "candidates": ["dynamic-plain-reduced"],
    "rounds": 1,
    "polished": 1,
}


class _Stop(SilentListener):
    """Interrupts a run when so many trials are made; counts those that were told."""

    def __init__(self, after: int = 99) -> None:
        self.after = after
        self.told: list[int] = []

    def trials(self, trials: Any, best: Any) -> None:
        self.told.append(len(trials))
        if len(trials) >= self.after:
            raise KeyboardInterrupt


def _recipe(base: Recipe, *, budget: dict[str, Any], tail: tuple[Any, ...] = (), **search: Any) -> Recipe:
    values = base.model_dump(mode="json", exclude={"steps", "choices", "budget"})
    return Recipe.from_mapping(
        {**values, "budget": budget, "steps": [{"search": {**_SEARCH, **search}}, *tail]}
    )


def _record(result: RunResult) -> dict[str, Any]:
    return dict(next(r for r in result.records if r["name"] == "search"))


@pytest.fixture(scope="module")
def interrupted(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, Path]:
    """A run that was stopped after its first trial: the recipe, its directory, and the bundle that was there then."""
    output = tmp_path_factory.mktemp("search") / "out"
    recipe = _recipe(tiny_recipe, budget={"max_drop": 1.0})
    with pytest.raises(KeyboardInterrupt):
        run(recipe, output, listener=_Stop(after=1))
    return recipe, output, output / "bundles" / "cpu"


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_stopped(
    interrupted: tuple[Recipe, Path, Path], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe, output, bundle = interrupted
    assert load(bundle).predict(["where is paris ?"])[0].label
    first = output / "search" / "01" / "trial.json"
    made = first.stat().st_mtime_ns
    listener = _Stop()
    result = run(recipe, output, listener=listener)
    assert first.stat().st_mtime_ns == made
    assert listener.told == [1, 2, 3]
    record = _record(result)
    trials = record["details"]["trials"]
    # Which of the two is trained to the end is for the clock to say.
    assert [(t["depth"], t["polished"]) for t in trials[:2]] == [(1, False), (2, False)]
    assert [t["polished"] for t in trials[2:]] == [True]
    assert [len(t["layers"]) for t in trials[:2]] == [3, 2]
    assert [tuple(layer) for layer in trials[1]["layers"]] == [(2, 16), (2, 16)]
    assert sum(t["taken"] for t in trials) == 1
    assert all(set(t["latency_ms"]) == set(t["speedup"]) == {"real", "1x32"} for t in trials)
    taken = next(t for t in trials if t["taken"])
    assert record["choices"]["search"] == {key: taken[key] for key in ("polished", "vocabulary")} | {
        "strokes": taken["depth"]
    }
    assert result.artefacts.model is not None

    # Another budget is answered from the same trials; one that nothing keeps by the nearest of them.
    impossible = _recipe(tiny_recipe, budget={"max_drop": 1.0, "max_latency_ms": 1e-6})
    answer = run(impossible, output, force=True, listener=_Stop())
    assert first.stat().st_mtime_ns == made
    assert any("none keeps the budget" in note and "are allowed" in note for note in _record(answer)["notes"])

    # Or chosen among them into a run of its own, without the search.
    chosen_recipe, judgement = choose_recipe(output, budget={"max_drop": None, "max_latency_ms": 1e6})
    assert judgement.kept
    chosen_run = run(chosen_recipe, tmp_path / "chosen")
    assert chosen_run.budget_met is True
    chosen_model = structure_of(load_classifier(tmp_path / "chosen" / "stages" / "01-choose" / "model"))
    assert tuple((layer.heads, layer.ffn) for layer in chosen_model.layers) == judgement.trial.layers
    assert load(chosen_run.bundles["cpu"]).predict(["where is paris ?"])[0].label
    by_number, named = choose_recipe(output, model=1)
    assert (named.trial.number, by_number.choices) == (1, {"quantize": "dynamic-plain-reduced"})
    assert by_number.budget.max_latency_ms == 1e-6
    assert not named.kept
    with pytest.raises(InputError, match="made no model 9"):
        choose_recipe(output, model=9)

    # What is too large is delivered with less of its vocabulary.
    size = taken["file_mb"]
    smaller = run(
        _recipe(tiny_recipe, budget={"max_drop": 1.0, "max_size_mb": size * 0.9}), output, force=True
    )
    shrunk = _record(smaller)["details"]["trials"][-1]
    assert (shrunk["vocabulary"], shrunk["depth"], shrunk["polished"]) == (
        0.6,
        taken["depth"],
        taken["polished"],
    )
    assert shrunk["parameters"] < taken["parameters"]
    assert shrunk["key"] not in {t["key"] for t in trials}

    # The resolved recipe makes only what leads to what was taken, without a judgement.
    resolved = Recipe.from_file(output / "recipe.yaml")
    chosen = {"strokes": 1, "polished": True}
    again = run(resolved.model_copy(update={"choices": {"search": chosen}}), tmp_path / "again")
    made_again = _record(again)["details"]["trials"]
    assert [(t["depth"], t["polished"]) for t in made_again] == [(1, False), (1, True)]
    assert made_again[-1]["taken"]


def test_a_search_that_is_out_of_time_delivers_what_it_has(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = _recipe(
        tiny_recipe,
        budget={"max_drop": 1.0},
        tail=("export", {"quantize": {"candidates": ["fp32"], "rounds": 1}}, {"bundle": {"golden": 2}}),
        time_limit_s=0.001,
    )
    result = run(recipe, tmp_path / "out")
    record = _record(result)
    assert record["metrics"]["trials"] == 1
    assert "the time limit ended the search before it was through" in record["notes"]
    assert load(result.bundles["cpu"]).predict(["a cat"])[0].label
    whole = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [stage["name"] for stage in whole["stages"]] == ["search", "export", "quantize", "bundle"]


def test_trials_depend_on_all_texts_that_are_learned(
    tiny_recipe: Recipe, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Those without labels too: another file makes other trials."""
    more = tmp_path / "more.csv"
    keys = []
    for text in ("a cat near a lake", "a king of a city"):
        more.write_text(f"text\n{text}\n")
        base = tiny_recipe.model_copy(
            update={"data": tiny_recipe.data.model_copy(update={"unlabeled": more})}
        )  # type: ignore[union-attr]
        recipe = _recipe(base, budget={"max_drop": 1.0}, time_limit_s=0.001)
        keys.append(_record(run(recipe, tmp_path / "out", force=True))["details"]["trials"][0]["key"])
    assert keys[0] != keys[1]


def _planted_table(monkeypatch: pytest.MonkeyPatch, *, call_ms: float) -> None:
    """Puts a latency table where measuring one would: a head takes 1 ms and a neuron next to nothing.

    A mock, for on a tiny model the clock tells blocks from noise only now and then.
    """
    attention = Curve(((1, 1.0), (4, 4.0)))
    ffn = Curve(((8, 0.008), (64, 0.064)))
    costs = BlockCosts(
        fixed_ms=call_ms,
        layer_ms=0.0,
        attention=attention,
        ffn=ffn,
        last_attention=attention,
        last_ffn=ffn,
    )
    table = LatencyTable(costs={"int8-plain": dict.fromkeys([(1, 8), (1, 32)], costs)})
    tabled = Tabled(table=table, path=Path("planted.json"), seconds=0.0)
    monkeypatch.setattr("pocketformer.pipeline.latency.latency_table", lambda *_, **__: tabled)


def test_a_cut_that_aims_at_a_latency_goes_by_the_latency_table(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a resolved recipe names it: where heads alone take time, heads alone are cut."""
    _planted_table(monkeypatch, call_ms=0.0)
    base = _recipe(tiny_recipe, budget={"max_drop": None, "max_latency_ms": 1.0, "latency_workload": "1x32"})
    chosen = {"strokes": 1, "aimed": 0.9, "polished": False}
    result = run(base.model_copy(update={"choices": {"search": chosen}}), tmp_path / "out")
    first, aimed = _record(result)["details"]["trials"]
    assert (aimed["depth"], aimed["aimed"], aimed["name"]) == (1.5, 0.9, "1.5")
    before, after = ([sum(widths) for widths in zip(*t["layers"], strict=True)] for t in (first, aimed))
    assert after == [before[0] - 1, before[1]]
    assert _record(result)["choices"]["search"] == {**chosen, "vocabulary": 0.9}


def test_a_latency_that_no_cut_reaches_ends_no_search(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call alone takes longer than the cut aims at: the models that there are stand for choice."""
    _planted_table(monkeypatch, call_ms=1000.0)
    monkeypatch.setattr("pocketformer.pipeline.search.stage.worth_aiming", lambda *_: (None, 0.5))
    recipe = _recipe(tiny_recipe, budget={"max_drop": None, "max_latency_ms": 1e-6})
    notes: list[str] = []
    listener = SilentListener()
    monkeypatch.setattr(listener, "note", notes.append)
    result = run(recipe, tmp_path / "out", listener=listener)
    assert all(trial["aimed"] is None for trial in _record(result)["details"]["trials"])
    assert any("no model costs as little as" in note for note in notes)


def test_models_of_a_search_outlive_an_error_in_it(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong input leaves nothing behind, but what took long and is whole: the same command goes on from there."""

    def refuse(*_: Any) -> None:
        raise RecipeError("no such model")

    recipe = _recipe(tiny_recipe, budget={"max_drop": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr("pocketformer.pipeline.search.stage.worth_aiming", refuse)
        with pytest.raises(RecipeError, match="no such model"):
            run(recipe, tmp_path / "out")
    first = tmp_path / "out" / "search" / "01" / "trial.json"
    made = first.stat().st_mtime_ns
    listener = _Stop(after=1)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "out", listener=listener)
    assert first.stat().st_mtime_ns == made


@pytest.mark.slow
def test_a_model_may_be_the_best_again(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later trials change how earlier ones are judged: the first, the second, then the first again."""
    order = iter([0, 1, 0, 0, 0, 0, 0])

    def judge(_: Rules, trials: Any) -> Judgement:
        return Judgement(trial=trials[min(next(order, 0), len(trials) - 1)], kept=True)

    monkeypatch.setattr(Rules, "judge", judge)
    result = run(_recipe(tiny_recipe, budget={"max_drop": 1.0}), tmp_path / "out")
    record = _record(result)
    assert len(record["details"]["trials"]) == 3
    assert record["details"]["trials"][0]["taken"]
    assert load(tmp_path / "out" / "bundles" / "cpu").predict(["a cat"])[0].label
