from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from evidence import rows
from evidence.table import EvidenceError


def latency(**medians: float) -> dict[str, Any]:
    return {name: SimpleNamespace(p50=value) for name, value in medians.items()}


def finished(tmp_path: Path, *, metric: str = "accuracy", split: str = "test", basis: str = "labels") -> Any:
    """A run as the rows see one: its report, its device, its bundle."""
    teacher = SimpleNamespace(metric=0.93, metric_ci95=(0.91, 0.95), latency_ms=latency(real=16.0, w=4.0))
    result = SimpleNamespace(metric=0.925, drop=0.005, drop_ci95=(-0.01, 0.02), latency_ms=latency(real=0.5))
    bundle = tmp_path / "bundle"
    bundle.mkdir(exist_ok=True)
    for name, count in (("model.onnx", 5_000_000), ("tokenizer.json", 500_000), ("manifest.json", 100)):
        (bundle / name).write_bytes(b"x" * count)
    (bundle / "README.md").write_bytes(b"x" * 9_000_000)
    return SimpleNamespace(
        report=SimpleNamespace(
            metric_name=metric, evaluation=SimpleNamespace(split=split, basis=basis, rows=1000)
        ),
        device=SimpleNamespace(baselines=SimpleNamespace(torch_eager=teacher), result=result),
        bundle=bundle,
        details={"seconds": 600.0, "exit_code": 0, "cores": 2, "source": "a clone", "made": "today"},
    )


@pytest.fixture
def run(tmp_path: Path) -> Any:
    return finished(tmp_path)


@pytest.fixture
def runs(run: Any, tmp_path: Path) -> Any:
    return SimpleNamespace(
        demo=lambda: run,
        repeat=lambda: run,
        sms=lambda: finished(tmp_path, metric="f1"),
        folder=tmp_path,
        answers=lambda one, questions: ["a", "b", "c"],
    )


def test_figures_of_the_report(runs: Any) -> None:
    assert rows.teacher_accuracy(runs).value == 0.93
    assert rows.drop(runs).value == 0.005
    assert rows.speedup("real")(runs).value == 32.0
    assert rows.sms_drop(runs).value == 0.005
    assert rows.sms_speedup(runs).value == 32.0
    assert "1000" in rows.drop(runs).how


def test_demo_time_is_in_minutes(runs: Any) -> None:
    assert rows.demo_time(runs).value == 10.0


@pytest.mark.parametrize(("name", "value"), [("exit_code", 2), ("cores", 1)])
def test_a_demo_that_failed_or_had_other_cores_has_no_time(
    runs: Any, run: Any, name: str, value: int
) -> None:
    run.details[name] = value
    with pytest.raises(EvidenceError, match=str(value)):
        rows.demo_time(runs)


def test_size_counts_all_but_the_readme(runs: Any, run: Any) -> None:
    assert rows.size(runs).value == pytest.approx(5.5001)
    (run.bundle / "variant.onnx").write_bytes(b"x" * 1_000_000)
    assert rows.size(runs).value == pytest.approx(6.5001)
    (run.bundle / "model.onnx").unlink()
    with pytest.raises(EvidenceError, match="holds only"):
        rows.size(runs)


@pytest.mark.parametrize(
    "other", [{"metric": "f1"}, {"split": "validation"}, {"basis": "teacher"}], ids=lambda o: next(iter(o))
)
def test_another_metric_is_not_taken_for_accuracy(runs: Any, tmp_path: Path, other: dict[str, str]) -> None:
    runs.demo = lambda: finished(tmp_path, **other)
    for measure in (rows.drop, rows.teacher_accuracy):
        with pytest.raises(EvidenceError, match="not accuracy on test"):
            measure(runs)


def test_accuracy_on_sms_is_not_taken_for_f1(runs: Any, run: Any) -> None:
    runs.sms = lambda: run
    with pytest.raises(EvidenceError, match="not f1 on test"):
        rows.sms_drop(runs)


def without(name: str) -> Callable[[Any], None]:
    def change(run: Any) -> None:
        if name == "teacher":
            run.device.baselines.torch_eager = None
        elif name == "result":
            run.device.result = None
        else:
            run.device.result.drop = None
            run.device.result.latency_ms = {}
            run.device.baselines.torch_eager.metric = None

    return change


@pytest.mark.parametrize("name", ["teacher", "result", "figures"])
def test_what_a_report_lacks_is_an_error_and_never_a_zero(runs: Any, run: Any, name: str) -> None:
    without(name)(run)
    for measure in (rows.drop, rows.speedup("real")):
        with pytest.raises(EvidenceError, match="report"):
            measure(runs)


def test_a_workload_that_only_one_was_timed_on_has_no_speedup(runs: Any) -> None:
    with pytest.raises(EvidenceError, match="no latency of w"):
        rows.speedup("w")(runs)


def test_repeat_counts_answers_that_differ(runs: Any, run: Any, tmp_path: Path) -> None:
    assert rows.repeat(runs).value == 0
    other = SimpleNamespace(bundle=run.bundle)
    runs.repeat = lambda: other
    answers = {id(run): ["a", "b", "c"], id(other): ["a", "x", "y"]}
    runs.answers = lambda one, questions: answers[id(one)]
    assert rows.repeat(runs).value == 2
    answers[id(other)] = ["a", "b"]
    with pytest.raises(EvidenceError, match="3 answers against 2"):
        rows.repeat(runs)


def test_resume_compares_with_the_uninterrupted_run(runs: Any, run: Any) -> None:
    resumed = SimpleNamespace(
        bundle=run.bundle, details={"kept": ["01-finetune"], "stage": "02-distill", "killed_after_s": 40.2}
    )
    runs.resume = lambda: resumed
    answers = {id(run): ["a", "b"], id(resumed): ["a", "c"]}
    runs.answers = lambda one, questions: answers[id(one)]
    measured = rows.resume(runs)
    assert measured.value == 1
    assert "SIGKILL" in measured.how
    assert "02-distill" in measured.how
