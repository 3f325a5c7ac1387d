from __future__ import annotations

import pytest

from pocketformer.report.schema import Baselines, Budget, Device, Evaluation, Measurement, Percentiles, Result
from pocketformer.report.verdict import budget_met, check_budget, compose_verdict, speedups


def _device(**result: object) -> Device:
    return Device(name="cpu", status="measured", result=Result.model_validate(result))


def _timed(p50: float) -> dict[str, Percentiles]:
    return {"real": Percentiles(p50=p50, p90=p50, p99=p50)}


def test_a_drop_of_exactly_the_limit_is_met() -> None:
    drop = 0.934 - 0.924
    assert drop > 0.01, "the case that this test is for"
    checks = check_budget(Budget(max_drop=0.01), [_device(drop=drop)])
    assert budget_met(checks)
    assert not budget_met(check_budget(Budget(max_drop=0.01), [_device(drop=0.0101)]))


def test_what_was_not_measured_is_not_met() -> None:
    checks = check_budget(Budget(max_drop=0.01, max_memory_mb=100), [_device(drop=0.0)])
    assert [(c.name, c.met) for c in checks] == [("max_drop", True), ("max_memory_mb", None)]
    assert not budget_met(checks)
    assert "was not measured" in compose_verdict("accuracy", Evaluation(), checks, [_device(drop=0.0)])


def test_every_limit_is_checked_on_every_device() -> None:
    budget = Budget(max_drop=0.01, max_latency_ms=1, max_size_mb=8, max_memory_mb=200)
    good = _device(drop=0.0, latency_ms=_timed(0.9), file_mb=8, peak_memory_mb=10)
    slow = _device(drop=0.0, latency_ms=_timed(1.1), file_mb=8, peak_memory_mb=10)
    checks = check_budget(budget, [good, slow])
    assert len(checks) == 8
    assert [c.name for c in checks if not c.met] == ["max_latency_ms"]


def test_no_limits_are_met() -> None:
    assert budget_met(check_budget(Budget(), [_device()]))


def test_speedups_are_ratios_of_medians() -> None:
    baselines = Baselines(torch_eager=Measurement(latency_ms=_timed(10.0)))
    found = speedups(baselines, Result(latency_ms=_timed(0.5)))
    assert found["real"].vs_torch == pytest.approx(20)
    assert found["real"].vs_onnxruntime is None
    assert speedups(Baselines(), Result(latency_ms=_timed(0.5))) == {}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"drop": 0.006, "drop_ci95": (0, 0.008)},
         "Budget met: accuracy falls by 0.6 points, at most 1.0 point is allowed."),
        ({"drop": -0.002}, "Budget met: accuracy rises by 0.2 points, at most 1.0 point is allowed."),
        ({"drop": 0.0}, "Budget met: accuracy is unchanged, at most 1.0 point is allowed."),
        ({"drop": 0.02}, "Budget not met: accuracy falls by 2.0 points, only 1.0 point is allowed."),
    ],
)  # fmt: skip
def test_the_sentence(result: dict[str, object], expected: str) -> None:
    device = _device(**result)
    checks = check_budget(Budget(max_drop=0.01), [device])
    assert compose_verdict("accuracy", Evaluation(), checks, [device]) == expected


def test_an_interval_past_the_limit_is_said() -> None:
    device = _device(drop=0.006, drop_ci95=(-0.003, 0.015))
    checks = check_budget(Budget(max_drop=0.01), [device])
    assert "−0.3 to 1.5 points, reaches past" in compose_verdict("accuracy", Evaluation(), checks, [device])


def test_without_labels_it_speaks_of_agreement() -> None:
    device = _device(drop=0.005)
    checks = check_budget(Budget(max_drop=0.01), [device])
    sentence = compose_verdict("accuracy", Evaluation(basis="teacher"), checks, [device])
    assert "accuracy" not in sentence
    assert "agreement with the teacher falls by 0.5 points" in sentence


def test_a_budget_of_size_alone_and_no_budget() -> None:
    device = _device(file_mb=7.6, drop=0.001)
    sized = compose_verdict("f1", Evaluation(), check_budget(Budget(max_size_mb=8), [device]), [device])
    assert sized == "Budget met: size of the model files 7.60 MB of 8.00 MB. F1 falls by 0.1 points."
    assert compose_verdict("f1", Evaluation(), [], [device]).startswith("No budget was set.")
    assert "not measured" in compose_verdict("f1", Evaluation(), [], [])
