from __future__ import annotations

import pytest
from pydantic import ValidationError

from pocketformer.report.bound_rows import HEADER, bound_rows, roof_sentence
from pocketformer.report.html import render_html
from pocketformer.report.markdown import render_markdown
from pocketformer.report.schema import Device, Report


def test_a_row_a_workload_that_was_foretold_or_held_against_the_roof(sample_report: Report) -> None:
    rows = bound_rows(sample_report.devices[0])
    assert [len(row.cells) for row in rows] == [len(HEADER)] * 2
    real, large = (dict(zip(HEADER, row.cells, strict=True)) for row in rows)
    assert "10%" in real["Error"]
    assert real["MACs"] == real["Of the int8 roof"] == real["What bounds it"]  # not measured
    assert large["MACs"] == "1,500 M"
    assert "49" in large["Of the int8 roof"]
    assert large["What bounds it"].startswith("arithmetic")


def test_pages_show_it_and_leave_it_out_where_nothing_was_measured(sample_report: Report) -> None:
    device = sample_report.devices[0]
    bare = device.model_copy(update={"prediction": None, "roofline": None})
    without = sample_report.model_copy(update={"devices": (bare,)})
    assert bound_rows(bare) == []
    assert roof_sentence(bare) == ""
    for render in (render_markdown, render_html):
        assert "120 billion MACs a second" in render(sample_report)
        assert "median error 8%" in render(sample_report) or "median error 9%" in render(sample_report)
        assert "What bounds it" not in render(without)


def test_a_device_that_was_not_timed_has_no_share(sample_report: Report) -> None:
    values = sample_report.devices[0].model_dump()
    timed = {"baselines", "result", "speedup", "loadgen", "prediction"}
    with pytest.raises(ValidationError, match="emulated"):
        Device.model_validate({k: v for k, v in values.items() if k not in timed} | {"status": "emulated"})
