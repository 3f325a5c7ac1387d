"""``targets table`` on the tiny model: a table is measured once, kept, and foretells what a bundle takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pocketformer.pipeline.latency import PRECISIONS, kept_table, precision_of

LAYERS = [(2, 32), (4, 64)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Tables of two short shapes in few rounds, in a cache of their own: what they say means nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("pocketformer.targets.latency_table.SHAPES", {(1, 8): 3, (1, 16): 3})
        # Only the ends of each width, for every graph has to be written and loaded.
        patch.setattr("pocketformer.targets.latency_table._HEAD_SHARES", (1.0,))
        patch.setattr("pocketformer.targets.latency_table._WIDTH_SHARES", (1.0,))
        yield


@pytest.fixture(scope="module")
def measured(home: None, cli: Callable[..., Any], tiny_model_dir: Path) -> dict[str, Any]:
    outcome = cli("targets", "table", tiny_model_dir, "--threads", 1, "--json")
    assert outcome.code == 0, outcome.err
    assert "timing blocks, int8-fused, 1 x 16" in outcome.err
    return cast("dict[str, Any]", outcome.json)


def test_a_table_has_every_form_and_shape(measured: dict[str, Any]) -> None:
    assert set(measured["costs"]) == set(PRECISIONS)
    assert {shape for costs in measured["costs"].values() for shape in costs} == {"1x8", "1x16"}
    assert measured["about"]["threads"] == 1
    costs = measured["costs"]["int8-fused"]["1x8"]
    assert [heads for heads, _ in costs["attention"]][-1] == 4
    assert [neurons for neurons, _ in costs["ffn"]][-1] == 64
    # Only the tables differ, so only what a call costs does.
    int4 = dict(measured["costs"]["int8-fused-int4"]["1x8"])
    assert int4.pop("fixed_ms") != costs["fixed_ms"]
    assert int4 == {name: value for name, value in costs.items() if name != "fixed_ms"}


def test_it_is_kept_and_shown(
    measured: dict[str, Any], cli: Callable[..., Any], tiny_model_dir: Path
) -> None:
    outcome = cli("targets", "table", tiny_model_dir, "--threads", 1)
    assert outcome.code == 0, outcome.err
    assert "timing" not in outcome.err
    for part in (
        "int8-fused-int4, ms",
        "a call, embeddings, head",
        "+ 4 heads",
        "measured earlier",
        measured["path"],
    ):
        assert part in outcome.out, part
    assert kept_table(tiny_model_dir, threads=2) is None


def test_a_kept_table_foretells_each_workload_that_was_measured(
    measured: dict[str, Any], tiny_model_dir: Path
) -> None:
    from pocketformer.compress.random_student import random_student
    from pocketformer.pipeline.expectations import prediction

    context = SimpleNamespace(artefacts=SimpleNamespace(need=lambda *_, **__: tiny_model_dir), threads=1)
    student = random_student(tiny_model_dir, LAYERS)
    p50 = {"real": 0.5}
    found = prediction(
        cast("Any", context), student, "dynamic-fused-reduced-int4", [6, 8, 12], p50, measure=False
    )
    assert found is not None
    table = kept_table(tiny_model_dir, threads=1)
    assert table is not None
    costs = table.costs["int8-fused-int4"][1, 8]
    assert found["precision"] == "int8-fused-int4"
    assert found["latency_ms"] == {"real": pytest.approx(costs.total_ms(LAYERS))}
    assert found["error"]["real"] == pytest.approx(found["latency_ms"]["real"] / 0.5 - 1)
    assert found["median_error"] == pytest.approx(abs(found["error"]["real"]))
    # Neither without a table nor for a form that tables do not have.
    assert prediction(cast("Any", context), student, "static-plain", [6], p50, measure=False) is None
    student.config.hidden_size = 24
    assert prediction(cast("Any", context), student, "fp32-fused", [6], p50, measure=False) is None
    student.config.hidden_size = 32
    elsewhere = SimpleNamespace(artefacts=context.artefacts, threads=2)
    assert prediction(cast("Any", elsewhere), student, "fp32-fused", [6], p50, measure=False) is None


@pytest.mark.parametrize(
    ("candidate", "precision"),
    [
        *((candidate, precision) for precision, candidate in PRECISIONS.items()),
        ("dynamic-fused", "int8-fused"),
        ("fp32-fused-embeddings-int8", "fp32-fused"),
        ("fp32", None),
        ("dynamic-plain-reduced-int4", None),
        ("dynamic-fused-codebook", None),
        ("static-plain", None),
    ],
)
def test_a_candidate_is_predicted_by_its_own_form_or_not_at_all(
    candidate: str, precision: str | None
) -> None:
    assert precision_of(candidate) == precision


def test_a_table_of_another_device_is_refused(
    cli: Callable[..., Any], tiny_model_dir: Path, tmp_path: Path
) -> None:
    outcome = cli("targets", "table", tiny_model_dir, "--target", "raspberry-pi-5")
    assert outcome.code == 4
    assert "latency table" in outcome.err
    outcome = cli("targets", "table", tmp_path / "none")
    assert outcome.code == 2
    assert "no such model" in outcome.err
