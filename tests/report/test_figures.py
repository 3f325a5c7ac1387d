from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pocketformer.report import figures
from pocketformer.report.schema import Report

_SVG = "{http://www.w3.org/2000/svg}"


def _parsed(svg: str | None) -> ElementTree.Element:
    assert svg is not None
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert len(root.attrib["aria-label"]) > 3
    assert "nan" not in svg
    return root


def _texts(root: ElementTree.Element) -> list[str]:
    return [t.text or "" for t in root.iter(f"{_SVG}text")]


@pytest.mark.parametrize("axis", ["latency_ms", "file_mb"])
def test_pareto_marks_teacher_chosen_and_what_is_off_scale(sample_report: Report, axis: figures.Axis) -> None:
    root = _parsed(figures.pareto_figure(sample_report, axis))
    texts = " ".join(_texts(root))
    assert "Teacher, PyTorch" in texts
    assert "int8 dynamic, fused, per-chan…" in texts
    assert "1.0 point below the teacher" in texts
    tooltips = [t.text or "" for t in root.iter(f"{_SVG}title")]
    assert len(tooltips) == len(sample_report.pareto)
    assert [t for t in tooltips if "off scale" in t] == [t for t in tooltips if "entropy" in t]
    assert "Chosen: int8 dynamic, fused, per-channel, 92.9%" in root.attrib["aria-label"]


@pytest.mark.parametrize("part", ["file_mb", "latency_ms", "metric"])
def test_waterfall_has_a_row_for_each_step(sample_report: Report, part: figures.StepPart) -> None:
    texts = _texts(_parsed(figures.waterfall_figure(sample_report, part)))
    for step in sample_report.steps:
        assert step.name in texts
    assert ("not measured" in texts) is (part == "latency_ms")


def test_waterfall_of_the_metric_shows_changes(sample_report: Report) -> None:
    texts = _texts(_parsed(figures.waterfall_figure(sample_report, "metric")))
    assert "92.9% (−0.5)" in texts
    assert "93.2% (+0.3)" in texts
    assert "budget" in texts


def test_latency_draws_the_distribution_where_samples_are_given(sample_report: Report) -> None:
    device = sample_report.devices[0]
    with_samples = figures.latency_figure(device, "real")
    root = _parsed(with_samples)
    assert len([t for t in _texts(root) if t.startswith(("PyTorch", "onnxruntime", "Result"))]) == 3
    assert with_samples is not None
    assert with_samples.count("ridge-") == 3
    data = device.model_dump()
    for part in (*data["baselines"].values(), data["result"]):
        part["latency_samples_ms"] = {}
    plain = figures.latency_figure(type(device).model_validate(data), "real")
    assert plain is not None
    assert "ridge-" not in plain
    assert figures.latency_figure(device, "no such workload") is None


def test_equal_samples_have_a_picture_too(sample_report: Report) -> None:
    data = sample_report.devices[0].model_dump()
    for part in (*data["baselines"].values(), data["result"]):
        part["latency_samples_ms"] = {"real": [2.0] * 20}
        part["latency_ms"] = {"real": {"p50": 2.0, "p90": 2.0, "p99": 2.0}}
    _parsed(figures.latency_figure(type(sample_report.devices[0]).model_validate(data), "real"))


def test_quality_pictures(sample_report: Report) -> None:
    interval = _texts(_parsed(figures.interval_figure(sample_report)))
    assert {"0.6", "no change", "budget 1.0"} <= set(interval)
    references = _texts(_parsed(figures.reference_figure(sample_report)))
    assert {"Teacher", "Result", "Same student, labels only", "TF-IDF + logistic regression"} <= set(
        references
    )
    _parsed(figures.class_figure(0.9, None, 0.9))
    _parsed(figures.class_figure(0.0, 1.0, 0.0))
    _parsed(figures.count_figure(0, 0))


def test_nothing_to_draw(bare_report: Report) -> None:
    assert figures.pareto_figure(bare_report, "file_mb") is None
    assert figures.waterfall_figure(bare_report, "metric") is None
    assert figures.interval_figure(bare_report) is None
    assert figures.reference_figure(bare_report) is None


def test_hostile_names_stay_text(sample_report: Report, hostile_text: str) -> None:
    data = sample_report.model_dump(mode="json")
    for row in (*data["pareto"], *data["steps"]):
        row["name"] = hostile_text
    hostile = Report.model_validate(data)
    for svg in (figures.pareto_figure(hostile, "file_mb"), figures.waterfall_figure(hostile, "file_mb")):
        root = _parsed(svg)
        assert not list(root.iter(f"{_SVG}script"))
        assert "<script" in " ".join(_texts(root))
