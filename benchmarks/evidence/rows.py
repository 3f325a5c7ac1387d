"""The rows of the table, each measured in a function of its own."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from evidence.base_environment import cold_starts, describe_cold_starts, overhead
from evidence.runs import Finished, Runs
from evidence.table import EvidenceError, Measured, Row

CORES = 2
_HELP_CALLS = 10


def demo_time(runs: Runs) -> Measured:
    """Minutes of ``make demo``, from an empty clone to the printed report."""
    details = runs.demo().details
    minutes = details["seconds"] / 60
    if details["exit_code"] != 0:
        raise EvidenceError(
            f"make demo took {minutes:.1f} minutes, but ended with exit code {details['exit_code']}; "
            f"see {runs.folder / 'demo' / 'log.txt'}"
        )
    if details["cores"] != CORES:
        raise EvidenceError(f"make demo had {details['cores']} cores, the claim is for {CORES}")
    how = (
        f"wall clock of `make demo` in {details['source']}, with an empty cache, on {details['cores']} cores; "
        f"made {details['made']}"
    )
    return Measured(value=minutes, how=how)


def teacher_accuracy(runs: Runs) -> Measured:
    """Accuracy of the fine-tuned teacher on the demo's test questions."""
    run = runs.demo()
    rows = _labelled_test(run, "accuracy")
    teacher = run.device.baselines.torch_eager
    if teacher is None or teacher.metric is None:
        raise EvidenceError("the report has no accuracy of the teacher")
    interval = (
        f", 95% interval {teacher.metric_ci95[0]:.3f} to {teacher.metric_ci95[1]:.3f}"
        if (teacher.metric_ci95)
        else ""
    )
    return Measured(value=teacher.metric, how=f"report.json of the demo, {rows} test questions{interval}")


def drop(runs: Runs) -> Measured:
    """How much accuracy the shipped bundle loses on test."""
    return _drop(runs.demo(), "accuracy", "the demo")


def speedup(workload: str) -> Callable[[Runs], Measured]:
    """Ratio of medians, PyTorch eager over the bundle, on one workload of the demo's own report."""
    return lambda runs: _speedup(runs.demo(), workload, "the demo")


def size(runs: Runs) -> Measured:
    """All that an app must carry, in 10^6 bytes."""
    bundle = runs.demo().bundle
    files = [file for file in sorted(bundle.rglob("*")) if file.is_file() and file.name != "README.md"]
    names = {file.name for file in files}
    if not {"model.onnx", "tokenizer.json", "manifest.json"} <= names:
        raise EvidenceError(f"{bundle} holds only {', '.join(sorted(names)) or 'nothing'}")
    total = sum(file.stat().st_size for file in files) / 1e6
    return Measured(
        value=total, how=f"all files of the demo's bundle but its README: {', '.join(sorted(names))}"
    )


def base_import_seconds(runs: Runs) -> Measured:
    """Import and load in a fresh process, median."""
    starts = _cold_starts(runs)
    seconds = median(start["import_s"] + start["load_s"] for start in starts)
    first = median(start["total_s"] for start in starts)
    how = (
        f"import_s + load_s, median of {_describe_cold_starts(runs)}; {first:.3f} s with the first prediction"
    )
    return Measured(value=seconds, how=how)


def base_memory(runs: Runs) -> Measured:
    """Peak resident memory of a process that loads and predicts, the largest seen, in 10^6 bytes."""
    peaks = [start["peak_memory_bytes"] for start in _cold_starts(runs)]
    if None in peaks:
        raise EvidenceError("this system does not tell a process's peak memory")
    return Measured(
        value=max(peaks) / 1e6, how=f"peak resident memory, most of {_describe_cold_starts(runs)}"
    )


def runtime_overhead(runs: Runs) -> Measured:
    """Median time of the runtime's predict over that of the same session with tokenizers around it."""
    run = runs.demo()
    return overhead(runs, runs.base_python(), run.bundle, *run.test_file())


def help_seconds(runs: Runs) -> Measured:
    """Wall clock of ``pocketformer --help``, median."""
    runs.demo()
    samples = []
    for _ in range(_HELP_CALLS + 1):
        start = perf_counter()
        printed = runs.output([str(runs.pocketformer()), "--help"])
        samples.append(perf_counter() - start)
        if "Usage" not in printed:
            raise EvidenceError("pocketformer --help printed no usage")
    how = f"whole process, median of {_HELP_CALLS} after one warm-up, in the demo's full environment"
    return Measured(value=median(samples[1:]), how=how)


def repeat(runs: Runs) -> Measured:
    """Test questions that a second run of the resolved recipe answers differently."""
    first, second = runs.demo(), runs.repeat()
    how = f"recipe.yaml of the demo run into another directory; {_same_graph(first, second)}"
    return _differing(runs, first, second, how)


def resume(runs: Runs) -> Measured:
    """Test questions that a killed and resumed run answers differently from the uninterrupted one."""
    uninterrupted, resumed = runs.repeat(), runs.resume()
    details = resumed.details
    how = (
        f"the same recipe, begun on a copy of the uninterrupted run's finished stages "
        f"({', '.join(details['kept'])}), SIGKILL to the process group {details['killed_after_s']:.0f} s into "
        f"{details['stage']}, then the same command to the end, those stages untouched; "
        f"{_same_graph(uninterrupted, resumed)}"
    )
    return _differing(runs, uninterrupted, resumed, how)


def sms_drop(runs: Runs) -> Measured:
    """How much F1 the bundle loses on SMS spam, with nothing tuned for it."""
    return _drop(runs.sms(), "f1", "`pocketformer demo --data sms`")


def sms_speedup(runs: Runs) -> Measured:
    """Ratio of medians on real messages."""
    return _speedup(runs.sms(), "real", "`pocketformer demo --data sms`")


def _labelled_test(run: Finished, metric: str) -> int:
    """Rows behind the metric; ``EvidenceError`` when it is another one, or not of test labels."""
    report = run.report
    evaluation = report.evaluation
    if (report.metric_name, evaluation.split, evaluation.basis) != (metric, "test", "labels"):
        raise EvidenceError(
            f"the report has {report.metric_name} on {evaluation.split} against {evaluation.basis}, "
            f"not {metric} on test against labels"
        )
    return evaluation.rows or 0


def _drop(run: Finished, metric: str, source: str) -> Measured:
    rows = _labelled_test(run, metric)
    result, teacher = run.device.result, run.device.baselines.torch_eager
    if result is None or teacher is None or None in (result.drop, result.metric, teacher.metric):
        raise EvidenceError("the report has no drop")
    interval = (
        ""
        if result.drop_ci95 is None
        else (f", paired 95% interval {result.drop_ci95[0]:.4f} to {result.drop_ci95[1]:.4f}")
    )
    how = f"report.json of {source}: {metric} {teacher.metric:.4f} to {result.metric:.4f} on {rows} rows{interval}"
    return Measured(value=float(result.drop or 0.0), how=how)


def _speedup(run: Finished, workload: str, source: str) -> Measured:
    eager, result = run.device.baselines.torch_eager, run.device.result
    if eager is None or result is None:
        raise EvidenceError("the report lacks PyTorch eager or the result")
    if workload not in eager.latency_ms or workload not in result.latency_ms:
        raise EvidenceError(f"the report has no latency of {workload}")
    slow, fast = eager.latency_ms[workload].p50, result.latency_ms[workload].p50
    if fast <= 0:
        raise EvidenceError(f"the report has a latency of {fast} ms for {workload}")
    how = f"report.json of {source}, interleaved, p50 {slow:.3f} ms against {fast:.3f} ms"
    return Measured(value=slow / fast, how=how)


def _cold_starts(runs: Runs) -> list[dict[str, Any]]:
    return cold_starts(runs, runs.base_python(), runs.demo().bundle)


def _describe_cold_starts(runs: Runs) -> str:
    return describe_cold_starts(runs, runs.base_python())


def _differing(runs: Runs, one: Finished, other: Finished, how: str) -> Measured:
    first, second = (runs.answers(run, runs.demo()) for run in (one, other))
    if len(first) != len(second):
        raise EvidenceError(f"{len(first)} answers against {len(second)}")
    count = sum(a != b for a, b in zip(first, second, strict=True))
    return Measured(value=count, how=f"{len(first)} test questions; {how}")


def _same_graph(one: Finished, other: Finished) -> str:
    same = (one.bundle / "model.onnx").read_bytes() == (other.bundle / "model.onnx").read_bytes()
    return f"the two model.onnx are {'equal' if same else 'not equal'} byte for byte"


_FASTER = "Faster than PyTorch eager, p50"
ROWS: tuple[Row[Runs], ...] = (
    Row(
        id="demo-time",
        what="`make demo` on 2 cores, install included",
        comparator="<",
        required=15,
        unit="minutes",
        measure=demo_time,
    ),
    Row(
        id="teacher-accuracy",
        what="Test accuracy of the teacher",
        comparator=">=",
        required=0.925,
        unit="fraction",
        measure=teacher_accuracy,
    ),
    Row(
        id="drop",
        what="Drop of the shipped bundle on test",
        comparator="<=",
        required=0.01,
        unit="fraction",
        measure=drop,
    ),
    *(
        Row(
            id=f"speedup-{workload}",
            what=f"{_FASTER}: {workload}",
            comparator=">=",
            required=required,
            unit="x",
            measure=speedup(workload),
        )
        for workload, required in (("real", 15), ("1x32", 9), ("1x128", 5), ("8x128", 6))
    ),
    Row(
        id="size",
        what="Model files of the bundle together",
        comparator="<=",
        required=8,
        unit="MB",
        measure=size,
    ),
    Row(
        id="base-import-seconds",
        what="Base install imports and loads the bundle",
        comparator="<",
        required=0.7,
        unit="s",
        measure=base_import_seconds,
    ),
    Row(
        id="base-memory",
        what="Memory of the base install with the bundle",
        comparator="<",
        required=200,
        unit="MB",
        measure=base_memory,
    ),
    Row(
        id="runtime-overhead",
        what="The runtime's predict over a bare session + tokenizers",
        comparator="<=",
        required=1.05,
        unit="ratio",
        measure=runtime_overhead,
    ),
    Row(
        id="help-seconds",
        what="`pocketformer --help`",
        comparator="<",
        required=0.3,
        unit="s",
        measure=help_seconds,
    ),
    Row(
        id="repeat",
        what="Answers that change when the resolved recipe is run again",
        comparator="==",
        required=0,
        unit="answers",
        measure=repeat,
    ),
    Row(
        id="resume",
        what="Answers that change when a run is killed and resumed",
        comparator="==",
        required=0,
        unit="answers",
        measure=resume,
    ),
    Row(
        id="sms-drop",
        what="Drop of F1 on SMS spam, unchanged defaults",
        comparator="<=",
        required=0.01,
        unit="fraction",
        measure=sms_drop,
    ),
    Row(
        id="sms-speedup",
        what=f"{_FASTER}: real messages of SMS spam",
        comparator=">=",
        required=8,
        unit="x",
        measure=sms_speedup,
    ),
)
