"""The prune step with ``method: obs``, on a tiny model; and the search for the smallest size, on made-up trials."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from pocketformer.compress.context import Progress, StepContext
from pocketformer.compress.data import Dataset
from pocketformer.compress.models import load_classifier, structure_of
from pocketformer.compress.prune.choosing import counted_costs, sizes
from pocketformer.compress.prune.config import PruneConfig
from pocketformer.compress.prune.costs import BlockCosts
from pocketformer.compress.prune.step import prune
from pocketformer.compress.prune.within_drop import Judged, search_share
from pocketformer.runtime.errors import RecipeError

_HALF = PruneConfig(method="obs", allocation="latency", cost=0.5)
_SEARCH = PruneConfig(method="obs", allocation="latency", cost="budget")


@pytest.fixture
def context(tiny_texts: list[str], tiny_labels: list[int], tmp_path: Path) -> StepContext:
    splits: Any = SimpleNamespace(
        train=Dataset(texts=tuple(tiny_texts[:40]), labels=tuple(tiny_labels[:40])),
        validation=Dataset(texts=tuple(tiny_texts[40:]), labels=tuple(tiny_labels[40:])),
        label_names=("a", "b", "c"),
    )
    return StepContext(
        splits=cast(Any, splits),
        output=tmp_path / "out",
        work=tmp_path / "work",
        max_length=32,
        max_drop=1.0,
    )


def _with(context: StepContext, **values: Any) -> StepContext:
    return StepContext(**{name: getattr(context, name) for name in context.__dataclass_fields__} | values)


def test_a_share_of_the_cost_stays_and_the_directory_loads(
    tiny_model_dir: Path, context: StepContext
) -> None:
    seen: list[Progress] = []
    result = prune(tiny_model_dir, _HALF, _with(context, on_progress=seen.append))
    model, teacher = load_classifier(result.output), load_classifier(tiny_model_dir)
    costs = counted_costs(teacher, 128)
    share = costs.total(*sizes(model)) / costs.total(*sizes(teacher))
    assert result.metrics["cost_share"] == pytest.approx(share)
    assert 0.3 < share <= 0.5
    assert result.metrics["examples"] == seen[-1].step == 40


def test_the_same_settings_give_the_same_weights(
    tiny_model_dir: Path, context: StepContext, tmp_path: Path
) -> None:
    first = load_classifier(prune(tiny_model_dir, _HALF, context).output).state_dict()
    again = prune(tiny_model_dir, _HALF, _with(context, output=tmp_path / "again")).output
    second = load_classifier(again).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", ["fisher", "obs"])
@pytest.mark.parametrize("allocation", ["uniform", "global", "latency"])
def test_every_allocation_keeps_as_much_as_is_asked_for(
    tiny_model_dir: Path, context: StepContext, method: Any, allocation: Any
) -> None:
    config = PruneConfig(heads=0.5, ffn=0.5, method=method, allocation=allocation, protected_layers=(1,))
    result = prune(tiny_model_dir, config, context)
    before = structure_of(load_classifier(tiny_model_dir)).layers
    after = structure_of(load_classifier(result.output)).layers
    assert after[1] == before[1]
    halves = [(layer.heads // 2, layer.ffn // 2) for layer in (before[0], before[2])]
    if allocation == "uniform":
        assert [(layer.heads, layer.ffn) for layer in (after[0], after[2])] == halves
    assert sum(layer.heads for layer in after) < sum(layer.heads for layer in before)
    assert result.metrics["parameters_after"] < result.metrics["parameters_before"]


def test_measured_costs_decide_where_they_are_known(tiny_model_dir: Path, context: StepContext) -> None:
    # A device on which attention costs nothing and networks everything.
    free, dear = {1: 0.0}, {0: 0.0, 4096: 4096.0}
    costs = BlockCosts(attention=free, last_attention=free, ffn=dear, last_ffn=dear)
    result = prune(tiny_model_dir, _HALF, _with(context, costs=costs))
    before = structure_of(load_classifier(tiny_model_dir)).layers
    after = structure_of(load_classifier(result.output)).layers
    assert [layer.heads for layer in after] == [layer.heads for layer in before]
    assert sum(layer.ffn for layer in after) <= sum(layer.ffn for layer in before) / 2


def test_where_anything_is_allowed_the_search_goes_as_small_as_it_may(
    tiny_model_dir: Path, context: StepContext
) -> None:
    result = prune(tiny_model_dir, _SEARCH, context)
    assert result.metrics["trials"] == 5
    teacher = load_classifier(tiny_model_dir)
    costs = counted_costs(teacher, 128)
    smallest = max(0.2, costs.total([1] * 3, [8] * 3) / costs.total(*sizes(teacher)))
    assert result.metrics["cost_limit"] == pytest.approx(smallest + (1 - smallest) / 2**5)
    assert result.metrics["cost_share"] <= result.metrics["cost_limit"]
    assert any(note.startswith("taken: ") for note in result.notes)


def test_without_a_limit_of_the_drop_there_is_nothing_to_search_by(
    tiny_model_dir: Path, context: StepContext
) -> None:
    with pytest.raises(RecipeError, match="none is given"):
        prune(tiny_model_dir, _SEARCH, _with(context, max_drop=None))


def test_the_limit_that_a_search_found_gives_its_model_again(
    tiny_model_dir: Path, context: StepContext, tmp_path: Path
) -> None:
    found = prune(tiny_model_dir, _SEARCH, context)
    config = PruneConfig(method="obs", allocation="latency", cost=found.metrics["cost_limit"])
    again = prune(tiny_model_dir, config, _with(context, output=tmp_path / "again"))
    first, second = (load_classifier(made.output).state_dict() for made in (found, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_texts_without_labels_are_enough(tiny_model_dir: Path, context: StepContext) -> None:
    bare: Any = SimpleNamespace(
        train=Dataset(texts=context.splits.train.texts, labels=None),
        validation=Dataset(texts=context.splits.validation.texts, labels=None),
        label_names=context.splits.label_names,
    )
    result = prune(tiny_model_dir, _SEARCH, _with(context, splits=bare, metric="agreement", max_drop=0.5))
    assert "validation_drop" not in result.metrics
    assert result.metrics["expected_drop"] <= 0.5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cost": 0.5}, "allocation: latency"),
        ({"cost": 0.5, "allocation": "latency", "ffn": 0.5}, "allocation: latency"),
        ({"cost": 1.5, "allocation": "latency"}, "cost is 1.5"),
        ({"cost": "budget", "allocation": "latency"}, "cost: budget"),
        ({"method": "magnitude"}, "method is 'magnitude'"),
        ({"tokens": 0}, "tokens is 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        PruneConfig(**values)


def test_a_cost_that_nothing_keeps_is_an_error(tiny_model_dir: Path, context: StepContext) -> None:
    config = PruneConfig(method="obs", allocation="latency", cost=0.01)
    with pytest.raises(RecipeError, match="no model costs as little"):
        prune(tiny_model_dir, config, context)


class _Judge:
    """Passes every share from ``limit`` on."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.teacher: Any = 1.0
        self.whole = Judged(share=1.0, drop=0.0, expected=0.0, flips=0.0, passes=True)

    def judge(self, model: Any, share: float) -> Judged:
        assert model == share
        return Judged(share=share, drop=0.0, expected=0.0, flips=0.0, passes=share >= self.limit)


@pytest.mark.parametrize("limit", [0.21, 0.4, 0.633, 0.9])
def test_bisection_ends_just_above_what_passes(limit: float) -> None:
    found = search_share(lambda share: cast(Any, share), cast(Any, _Judge(limit)))
    assert limit <= found.taken.share <= limit + 0.8 / 2**5 + 1e-9
    assert found.model == found.taken.share


def test_the_whole_model_is_taken_when_nothing_passes() -> None:
    found = search_share(lambda share: cast(Any, share), cast(Any, _Judge(2.0)))
    assert found.taken.share == 1.0
    assert "nothing was cut" in found.verdict
