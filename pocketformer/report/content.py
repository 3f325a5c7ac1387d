"""What a report says, before any rendering: HTML, Markdown, terminal and model card all read this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pocketformer.report import wording
from pocketformer.report.schema import Candidate, Device, Measurement, Percentiles, Report
from pocketformer.report.wording import NOT_MEASURED


@dataclass(frozen=True)
class Headline:
    """One large number: ``15.8×`` ``faster`` and what stands behind it."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True)
class Column:
    """One model of a device's comparison: ``key`` is ``torch_eager``, ``onnxruntime_fp32`` or ``result``."""

    key: str
    label: str
    measurement: Measurement


@dataclass(frozen=True)
class LatencyRow:
    """One workload of a device: percentiles per column key, and the speedups of the result in words."""

    workload: str
    label: str
    latency: Mapping[str, Percentiles | None]
    vs_torch: str
    vs_onnxruntime: str


@dataclass(frozen=True)
class Fact:
    """A name and a value, both ready to be shown."""

    name: str
    value: str


def primary_device(report: Report) -> Device | None:
    """The device of the headline: the first on which the teacher was timed too, else measured, else with a result."""
    with_result = [device for device in report.devices if device.result is not None]
    measured = [device for device in with_result if device.status == "measured"]
    timed = [device for device in measured if device.speedup]
    return next(iter(timed or measured or with_result), None)


def teacher_of(device: Device) -> Measurement | None:
    """The teacher to compare with: in PyTorch, or in onnxruntime where PyTorch was not measured."""
    return device.baselines.torch_eager or device.baselines.onnxruntime_fp32


def with_section(report: Report) -> list[Device]:
    """The devices that have more to say than a row: several models, several workloads, or no row at all."""
    if len(report.devices) == 1:
        return report.devices
    return [d for d in report.devices if len(columns(d)) > 1 or len(latency_rows(d)) > 1 or d.gpu is not None]


def columns(device: Device) -> list[Column]:
    """The models measured on a device, the teacher first."""
    pairs = [
        ("torch_eager", device.baselines.torch_eager),
        ("onnxruntime_fp32", device.baselines.onnxruntime_fp32),
        ("result", device.result),
    ]
    return [Column(key, wording.model_label(key), m) for key, m in pairs if m is not None]


def latency_rows(device: Device) -> list[LatencyRow]:
    """One row for each workload that anything was timed on; the standard workloads first."""
    shown = columns(device)
    workloads = {w for column in shown for w in column.measurement.latency_ms} | set(device.speedup)
    rows = []
    for workload in wording.workload_order(workloads):
        speedup = device.speedup.get(workload)
        rows.append(
            LatencyRow(
                workload=workload,
                label=wording.workload_label(workload),
                latency={c.key: c.measurement.latency_ms.get(workload) for c in shown},
                vs_torch=wording.ratio(speedup.vs_torch if speedup else None),
                vs_onnxruntime=wording.ratio(speedup.vs_onnxruntime if speedup else None),
            )
        )
    return rows


def verdict_sentence(report: Report) -> str:
    """The verdict without its first words, for places that already say whether the budget is met."""
    for opening in ("Budget met: ", "Budget not met: "):
        if report.verdict.startswith(opening):
            return wording.capitalised(report.verdict.removeprefix(opening))
    return report.verdict


def headlines(report: Report) -> list[Headline]:
    """Times faster, times smaller, points lost; ``not measured`` where a number is missing."""
    device = primary_device(report)
    if device is None or device.result is None:
        return []
    return [_faster(device), _smaller(report, device), _lost(report, device)]


def _faster(device: Device) -> Headline:
    result = device.result
    workloads = wording.workload_order(set(device.speedup))
    timed = result.latency_ms.get("real") if result is not None else None
    if timed is not None and not workloads:
        detail = f"p50 on {device.name}; the teacher was not timed there"
        return Headline(wording.milliseconds(timed.p50), "for a real input", detail)
    if result is None or not workloads:
        return Headline(NOT_MEASURED, "speed", f"{device.name} is {device.status}: no latency is claimed")
    workload = workloads[0]
    speedup = device.speedup[workload]
    torch = speedup.vs_torch is not None
    baseline = device.baselines.torch_eager if torch else device.baselines.onnxruntime_fp32
    before = baseline.latency_ms.get(workload) if baseline else None
    after = result.latency_ms.get(workload)
    name = "PyTorch" if torch else "onnxruntime fp32"
    change = _from_to(wording.milliseconds, before.p50 if before else None, after.p50 if after else None)
    return Headline(
        wording.ratio(speedup.vs_torch if torch else speedup.vs_onnxruntime),
        f"faster than {name}",
        f"{wording.workload_label(workload)}: {change}",
    )


def _smaller(report: Report, device: Device) -> Headline:
    teacher, result = teacher_of(device), device.result
    before = (
        teacher.file_mb if teacher else next((s.file_mb for s in report.steps if s.stage == "teacher"), None)
    )
    after = result.file_mb if result else None
    factor = before / after if before and after else None
    return Headline(
        wording.ratio(factor), "smaller", f"Model files: {_from_to(wording.megabytes, before, after)}"
    )


def _lost(report: Report, device: Device) -> Headline:
    metric, result, teacher = wording.metric_label(report), device.result, teacher_of(device)
    drop = result.drop if result else None
    if result is None or drop is None:
        return Headline(NOT_MEASURED, f"drop of {metric}", "There was nothing to measure it on")
    gained = drop < 0 and wording.points(drop) != "0.0"
    amount = wording.points(abs(drop))
    noun = "point" if amount == "1.0" else "points"
    # Where the teacher was not run its metric is that of the host, on the same rows.
    apart = result.metric + drop if result.metric is not None else None
    change = _from_to(wording.percent, teacher.metric if teacher else apart, result.metric)
    return Headline(
        amount,
        f"{noun} of {metric} {'gained' if gained else 'lost'}",
        f"{change}; 95% interval of the drop: {wording.interval(result.drop_ci95, as_points=True)}",
    )


def _from_to(write: Callable[[float | None], str], before: float | None, after: float | None) -> str:
    if before is None and after is None:
        return NOT_MEASURED
    return f"{write(before)} → {write(after)}"


def measurement_facts(report: Report, column: Column, *, brief: bool = False) -> list[Fact]:
    """What was measured of one model besides latency per workload; ``brief``: medians, no intervals."""
    m = column.measurement
    label = wording.capitalised(wording.metric_label(report))
    metric = wording.percent(m.metric)
    if m.metric is not None and m.metric_ci95 is not None and not brief:
        metric += f" ({wording.interval(m.metric_ci95)})"
    cold = m.cold_start

    def timed(value: Percentiles | None) -> str:
        return wording.milliseconds(value.p50 if value else None) if brief else wording.percentiles(value)

    shown = "p50" if brief else "p50 / p90 / p99"
    return [
        Fact(label if brief else f"{label} (95% interval)", metric),
        Fact("Model files", wording.megabytes(m.file_mb)),
        Fact("Parameters", wording.parameters(m.parameters)),
        Fact("Peak memory of a fresh process", wording.megabytes(m.peak_memory_mb)),
        Fact("Cold start to the first answer", wording.milliseconds(cold.total_ms if cold else None)),
        Fact(f"Tokenizer alone, {shown}", timed(m.tokenizer_ms)),
        Fact(f"Text to label, {shown}", timed(m.end_to_end_ms)),
    ]


def candidates_not_taken(report: Report) -> list[Candidate]:
    """What was tried and left, in the order of trying."""
    return [candidate for candidate in report.candidates if not candidate.taken]


def evaluation_sentence(report: Report) -> str:
    """What the metric stands on, for captions."""
    evaluation = report.evaluation
    on = f"the {evaluation.split} split"
    if evaluation.rows is not None:
        on = f"{wording.counted(evaluation.rows, 'row')} of {on}"
    if evaluation.basis == "teacher":
        return (
            f"There are no labels: measured is agreement with the teacher on {on}; accuracy was not measured."
        )
    return f"Measured on {on}."


def audit_facts(report: Report) -> list[Fact]:
    """The data audit line by line; counts that were not taken read ``not measured``."""
    audit = report.data_audit
    if audit is None:
        return []

    def count(value: int | None) -> str:
        return NOT_MEASURED if value is None else f"{value:,}"

    facts = [Fact("Rows read", count(audit.rows_read))]
    facts += [
        Fact(f"Rows used for {split}", count(audit.rows.get(split)))
        for split in ("train", "validation", "test")
    ]
    facts += [
        Fact("Rows without text, dropped", count(audit.empty_texts)),
        Fact("Duplicates, dropped", count(audit.duplicates_removed)),
        Fact("Texts with conflicting labels, dropped", count(audit.conflicting_labels_removed)),
        Fact("Training rows that validation has, dropped", count(audit.leaked_into_validation)),
        Fact("Training rows that test has, dropped", count(audit.leaked_into_test)),
        Fact("Validation rows that test has, dropped", count(audit.validation_leaked_into_test)),
        Fact("Tokens kept of each text", count(audit.max_length)),
        Fact("Training texts that were cut", wording.percent(audit.truncation_rate, 2)),
    ]
    return facts


def class_counts(report: Report) -> Mapping[str, int]:
    """Training rows per class name; empty without labels or without an audit."""
    return report.data_audit.class_counts.get("train", {}) if report.data_audit else {}


def class_names(report: Report) -> list[str]:
    """Names of the classes, as far as the report knows them."""
    return list(class_counts(report)) or [row.label for row in report.per_class]


def environment_facts(report: Report) -> list[Fact]:
    """The machine; unknown parts are left out."""
    e = report.environment
    pairs = [
        ("Processor", e.cpu),
        ("Architecture", e.architecture),
        ("Cores used", None if e.cores is None else str(e.cores)),
        ("Instruction sets", ", ".join(e.cpu_flags) or None),
        ("Memory", None if e.memory_mb is None else f"{e.memory_mb / 1000:,.1f} GB"),
        ("System", e.platform),
        ("Python", e.python),
    ]
    pairs += [(name, version) for name, version in sorted(e.packages.items())]
    return [Fact(name, value) for name, value in pairs if value is not None]


def flip_kind(teacher: str, result: str, label: str | None) -> str:
    """What a flip means: ``lost``, ``gained``, ``both wrong``, or ``unknown`` without a true label."""
    if label is None:
        return "unknown"
    return "lost" if teacher == label else "gained" if result == label else "both wrong"
