from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pocketformer.runtime.manifest import SessionSettings
from pocketformer.targets.latency_cache import measured_on, read_table, table_path, table_to_dict, write_table
from pocketformer.targets.latency_table import BlockCosts, Curve, LatencyTable

SETTINGS = SessionSettings(intra_op_threads=2)
MODEL = {"type": "bert", "hidden": 32}


def table() -> LatencyTable:
    costs = BlockCosts(
        fixed_ms=0.5,
        layer_ms=0.25,
        attention=Curve(((1, 0.1), (4, 0.3))),
        ffn=Curve(((8, 0.01), (64, 0.2))),
        last_attention=Curve(((1, 0.0), (4, 0.1))),
        last_ffn=Curve(((8, 0.0), (64, 0.05))),
    )
    about = measured_on(SETTINGS, MODEL)
    return LatencyTable(
        costs={"int8-fused": {(1, 8): costs, (8, 128): replace(costs, fixed_ms=4.0)}}, about=about
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = table()
    path = write_table(tmp_path / "new" / "folder", written)
    assert path == table_path(tmp_path / "new" / "folder", written.about)
    assert read_table(path.parent, written.about) == written
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half-written is left
    assert json.loads(path.read_text())["costs"] == json.loads(json.dumps(table_to_dict(written)))["costs"]


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        (SessionSettings(intra_op_threads=1), MODEL),
        (SessionSettings(intra_op_threads=2, spinning=False), MODEL),
        (SETTINGS, MODEL | {"hidden": 64}),
    ],
)
def test_a_table_of_something_else_is_none(
    tmp_path: Path, settings: SessionSettings, model: dict[str, object]
) -> None:
    write_table(tmp_path, table())
    assert read_table(tmp_path, measured_on(settings, model)) is None


def test_all_cores_and_their_number_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketformer.runtime.engine.available_cores", lambda: 2)
    assert measured_on(SessionSettings(), MODEL) == measured_on(SETTINGS, MODEL)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"about": 1}', '{"costs": {}}'])
def test_a_damaged_table_counts_as_none(tmp_path: Path, damage: str) -> None:
    path = write_table(tmp_path, table())
    path.write_text(damage)
    assert read_table(tmp_path, table().about) is None


def test_a_table_that_lost_its_costs_counts_as_none(tmp_path: Path) -> None:
    path = write_table(tmp_path, table())
    document = json.loads(path.read_text())
    for costs in ({}, {"int8-fused": {"1x8": {"fixed_ms": 1.0}}}, {"int8-fused": {"long": {}}}):
        path.write_text(json.dumps(document | {"costs": costs}))
        assert read_table(tmp_path, table().about) is None
