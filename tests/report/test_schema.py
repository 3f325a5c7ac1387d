from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from pocketformer.report import schema
from pocketformer.report.schema import Device, FlippedExample, Measurement, Percentiles, Report, Result
from pocketformer.report.schema_document import DOCUMENT_FILE, SCHEMA_FILE, document_with_fields
from pocketformer.report.storage import json_schema

DOCS = Path(__file__).parents[2] / "docs"


def test_the_keys_that_readers_rely_on_are_there(sample_report: Report) -> None:
    data = sample_report.model_dump(mode="json")
    assert {
        "schema_version", "task", "metric_name", "budget", "budget_met", "steps", "pareto", "environment",
        "lineage", "devices",
    } <= set(data)  # fmt: skip
    device = data["devices"][0]
    assert {"name", "status", "baselines", "result", "speedup", "loadgen"} <= set(device)
    for measured in (
        device["baselines"]["torch_eager"],
        device["baselines"]["onnxruntime_fp32"],
        device["result"],
    ):
        assert {"metric", "file_mb", "parameters", "latency_ms"} <= set(measured)
        assert list(measured["latency_ms"]) == ["real", "1x32", "1x128", "8x128"]
        assert {"p50", "p90", "p99"} <= set(measured["latency_ms"]["real"])
    assert {"drop", "drop_ci95", "flips"} <= set(device["result"])
    assert isinstance(device["result"]["drop_ci95"], list)
    assert set(device["speedup"]["real"]) == {"vs_torch", "vs_onnxruntime"}
    assert device["loadgen"]["note"] == "not an MLPerf result"


def test_what_drove_loadgens_scenarios(sample_report: Report) -> None:
    data = sample_report.model_dump(mode="json")
    load = data["devices"][0]["loadgen"]
    assert load.pop("driver") == "mlcommons-loadgen"
    assert Report.model_validate(data) == sample_report, "a file from before there was the key"
    load["driver"] = "own loop"
    with pytest.raises(ValidationError, match="our own loop drove"):
        Report.model_validate(data)
    load["version"] = load["single_stream"]["valid"] = load["offline"]["valid"] = None
    assert Report.model_validate(data).devices[0].loadgen.driver == "own loop"  # type: ignore[union-attr]


def test_an_unknown_key_is_refused(sample_report: Report) -> None:
    data = sample_report.model_dump(mode="json")
    data["devices"][0]["result"]["latency"] = {}
    with pytest.raises(ValidationError, match="latency"):
        Report.model_validate(data)


@pytest.mark.parametrize("value", [93.4, float("nan"), float("inf"), -1.5])
def test_a_metric_is_a_fraction(value: float) -> None:
    with pytest.raises(ValidationError):
        Measurement(metric=value)


def test_numpy_numbers_are_taken() -> None:
    measured = Measurement(metric=np.float32(0.5), parameters=np.int64(3))  # type: ignore[arg-type]
    assert measured.metric == 0.5
    assert json.loads(measured.model_dump_json())["parameters"] == 3


def test_percentiles_and_intervals_are_in_order() -> None:
    with pytest.raises(ValidationError, match="rise"):
        Percentiles(p50=2, p90=1, p99=3)
    with pytest.raises(ValidationError, match="drop_ci95"):
        Result(drop=0.0, drop_ci95=(0.02, 0.01))
    with pytest.raises(ValidationError, match="metric_ci95"):
        Measurement(metric_ci95=(0.9, 0.8))


@pytest.mark.parametrize("status", ["emulated", "built"])
def test_only_a_measured_device_has_latencies(sample_report: Report, status: str) -> None:
    data = sample_report.devices[0].model_dump(mode="json")
    with pytest.raises(ValidationError, match="only a measured device"):
        Device.model_validate({**data, "status": status})


def test_the_verdict_cannot_contradict_its_checks(sample_report: Report) -> None:
    data = sample_report.model_dump(mode="json")
    with pytest.raises(ValidationError, match="budget_checks say otherwise"):
        Report.model_validate({**data, "budget_met": False})
    data["budget_checks"][0]["met"] = None
    with pytest.raises(ValidationError, match="budget_checks say otherwise"):
        Report.model_validate(data)


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    flip = FlippedExample(text="a\ud800b \U0001f600", teacher="x", result="y")
    assert flip.text == "a\ufffdb \U0001f600"
    flip.model_dump_json().encode("utf-8")


def test_every_field_and_part_is_documented() -> None:
    parts = [part for name in schema.__all__ if isinstance(part := getattr(schema, name), type)]
    models = [part for part in parts if issubclass(part, BaseModel)]
    assert len(models) > 20
    for model in models:
        assert model.__doc__, model
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_the_json_schema_in_docs_is_current() -> None:
    stored = json.loads((DOCS / SCHEMA_FILE).read_text(encoding="utf-8"))
    assert stored == json_schema(), "run: python -m pocketformer.report.schema_document docs"


def test_the_field_tables_in_docs_are_current() -> None:
    text = (DOCS / DOCUMENT_FILE).read_text(encoding="utf-8")
    assert text == document_with_fields(text), "run: python -m pocketformer.report.schema_document docs"


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        document_with_fields("# nothing here")
