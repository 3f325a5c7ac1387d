from __future__ import annotations

import io
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from pocketformer.report.html import render_html
from pocketformer.report.markdown import render_markdown
from pocketformer.report.schema import Budget, Device, Report
from pocketformer.report.side_by_side import side_by_side
from pocketformer.report.terminal import print_report
from pocketformer.report.verdict import budget_met, check_budget, compose_verdict


def test_one_row_a_device(fleet_report: Report) -> None:
    together = side_by_side(fleet_report)
    assert together is not None
    assert [row.name for row in together.rows] == ["cpu", "orin", "pi-5", "gone", "tensorrt-rtx-sm89"]
    for row in together.rows:
        assert sum(cell.span for cell in row.cells) == len(together.header)
    cpu, orin, emulated, gone, built = (
        dict(zip(_spread(together.header, row), row.cells, strict=True)) for row in together.rows
    )
    timed = fleet_report.devices[0].result
    assert timed is not None
    assert cpu["p50"].value == f"{timed.latency_ms['real'].p50:.3f} ms"
    assert cpu["Energy"].value == "\N{EN DASH}"
    assert orin["Energy"].value == "3.20 mJ"
    assert orin["Energy"].detail == "at 5.2 W"
    assert orin["Rows/s"].value == "610"
    assert "fallback: 2 (LayerNormalization)" in orin["Runs in"].detail
    assert (orin["Mode"].value, orin["Mode"].detail) == ("15W", "")
    assert cpu["Mode"].value == "\N{EN DASH}"
    assert (emulated["p50"].value, emulated["p50"].detail) == ("no speed", "emulated")
    assert emulated["Accuracy"].value == "92.8%"
    assert "lost" in gone["Accuracy"].value
    assert built["Accuracy"].value == "never run"
    assert (built["Size"].value, built["Size"].detail) == ("15.9 MB", "engine, fp16")
    assert "36 layers: 34 fp16" in built["Runs in"].detail


def _spread(header: tuple[str, ...], row: Any) -> list[str]:
    """The column in which each cell of a row begins."""
    names, position = [], 0
    for cell in row.cells:
        names.append(header[position])
        position += cell.span
    return names


def test_a_device_beside_its_teacher_needs_no_row(sample_report: Report, bare_report: Report) -> None:
    assert side_by_side(sample_report) is None
    assert side_by_side(bare_report) is None
    assert "Devices side by side" not in render_html(sample_report)


def test_no_energy_column_where_no_device_tells(fleet_report: Report) -> None:
    silent = [device.model_copy(update={"energy": None}) for device in fleet_report.devices]
    together = side_by_side(fleet_report.model_copy(update={"devices": silent}))
    assert together is not None
    assert "Energy" not in together.header
    assert not any("Energy" in line for line in together.legend)
    for row in together.rows:
        assert sum(cell.span for cell in row.cells) == len(together.header)


def test_every_rendering_says_the_same(fleet_report: Report) -> None:
    out = io.StringIO()
    print_report(fleet_report, Console(file=out, width=130, color_system=None))
    for text in (out.getvalue(), render_markdown(fleet_report), render_html(fleet_report)):
        for part in ("orin", "3.20 mJ", "no speed", "never run", "gone", "was lost", "15.9 MB"):
            assert part in text, part
    emulator = fleet_report.devices[2].emulation
    assert emulator is not None
    for text in (out.getvalue(), render_markdown(fleet_report), render_html(fleet_report)):
        assert "98765" not in text.replace(",", ""), "an emulator's time is shown"
    assert emulator.p50_ms == {"real": 98765.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "emulated"},
        {"status": "failed"},
        {"error": "why"},
        {"emulation": {"p50_ms": {}}},
        {"status": "emulated", "result": {"samples_per_s": {"real": 1.0}}, "energy": None},
        {"status": "built", "result": None},
    ],
)
def test_only_what_was_measured_has_a_speed(fleet_report: Report, wrong: dict[str, Any]) -> None:
    values = fleet_report.devices[1].model_dump(mode="json")
    Device.model_validate(values)
    with pytest.raises(ValidationError):
        Device.model_validate(values | wrong)


def test_a_budget_is_checked_where_there_are_answers(fleet_report: Report) -> None:
    budget = Budget(max_drop=0.001, max_latency_ms=1.0)
    checks = check_budget(budget, fleet_report.devices)
    assert [(check.device, check.name) for check in checks] == [
        ("cpu", "max_drop"), ("cpu", "max_latency_ms"), ("orin", "max_drop"), ("orin", "max_latency_ms"),
        ("pi-5", "max_drop"),
    ]  # fmt: skip
    verdict = compose_verdict("accuracy", fleet_report.evaluation, checks, fleet_report.devices)
    assert verdict.count("accuracy falls by 0.6 points") == 1
    assert "(on cpu, orin, pi-5)" in verdict
    assert "latency (p50) is 1.64 ms, at most 1.00 ms is allowed (on orin)" in verdict
    nowhere = [device for device in fleet_report.devices if device.result is None]
    checks = check_budget(budget, nowhere)
    assert len(checks) == 4
    assert not budget_met(checks)
