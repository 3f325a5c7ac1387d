from __future__ import annotations

from pathlib import Path

import pytest

from pocketformer.report.pictures import save_png
from pocketformer.report.schema import Report

pytest.importorskip("matplotlib", reason="matplotlib comes with the compress extra")


def test_three_pictures(sample_report: Report, tmp_path: Path) -> None:
    data = sample_report.model_dump(mode="json")
    # A dollar must not start mathematics, and a script that the font lacks must not fail.
    data["steps"][1]["name"] = "costs $5 or $6_"
    data["steps"][2]["name"] = "\u6a21\u578b"
    written = save_png(Report.model_validate(data), tmp_path / "pictures")
    assert [p.name for p in written] == ["pareto.png", "waterfall.png", "latency.png"]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000


def test_no_picture_without_numbers(bare_report: Report, tmp_path: Path) -> None:
    assert save_png(bare_report, tmp_path) == []
