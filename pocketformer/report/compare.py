"""Two reports side by side: what changed, whether it is better, and whether they may be compared at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocketformer.report import content, wording
from pocketformer.report.schema import Device, Report

# Packages whose version moves latency or accuracy.
_DECISIVE_PACKAGES = ("onnxruntime", "torch", "transformers", "tokenizers", "neural-compressor")
_WRITERS: dict[str, Callable[[float | None], str]] = {
    "fraction": lambda v: wording.percent(v),
    "points": lambda v: wording.points(v),
    "mb": wording.megabytes,
    "ms": wording.milliseconds,
    "times": wording.ratio,
    "count": lambda v: wording.NOT_MEASURED if v is None else f"{v:,.0f}",
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One number in both reports.

    ``unit`` is fraction, points (a fraction shown in hundredths), mb, ms, times or count. ``change``
    is b - a; ``better`` says whether b is better, and is ``None`` where neither is or a number lacks.
    """

    name: str
    unit: str
    a: float | None
    b: float | None
    change: float | None
    better: bool | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What differs between two reports, and what makes the difference doubtful."""

    name_a: str
    name_b: str
    device: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def compare_reports(a: Report, b: Report) -> Comparison:
    """Compare the primary devices of two reports, or the same device where both have it."""
    device_a, device_b = _devices(a, b)
    result_a, result_b = (d.result if d else None for d in (device_a, device_b))
    same_metric = (a.metric_name, a.evaluation.basis) == (b.metric_name, b.evaluation.basis)
    changes = []

    def add(name: str, unit: str, x: float | None, y: float | None, *, more_is_better: bool | None) -> None:
        if x is None and y is None:
            return
        change = None if x is None or y is None else y - x
        better = None if not change or more_is_better is None else (change > 0) is more_is_better
        changes.append(Change(name=name, unit=unit, a=x, b=y, change=change, better=better))

    if result_a and result_b and device_a and device_b:
        if same_metric:
            metric = wording.capitalised(wording.metric_label(a))
            add(metric, "fraction", result_a.metric, result_b.metric, more_is_better=True)
        add("Drop", "points", result_a.drop, result_b.drop, more_is_better=False)
        add("Model files", "mb", result_a.file_mb, result_b.file_mb, more_is_better=False)
        add("Parameters", "count", result_a.parameters, result_b.parameters, more_is_better=None)
        add("Peak memory", "mb", result_a.peak_memory_mb, result_b.peak_memory_mb, more_is_better=False)
        cold_a, cold_b = (r.cold_start.total_ms if r.cold_start else None for r in (result_a, result_b))
        add("Cold start", "ms", cold_a, cold_b, more_is_better=False)
        for workload in wording.workload_order(set(result_a.latency_ms) | set(result_b.latency_ms)):
            p50_a, p50_b = (
                r.latency_ms[workload].p50 if workload in r.latency_ms else None for r in (result_a, result_b)
            )
            add(f"p50, {wording.workload_label(workload)}", "ms", p50_a, p50_b, more_is_better=False)
        for workload in wording.workload_order(set(device_a.speedup) & set(device_b.speedup)):
            times_a, times_b = (d.speedup[workload].vs_torch for d in (device_a, device_b))
            name = f"Faster than PyTorch, {wording.workload_label(workload)}"
            add(name, "times", times_a, times_b, more_is_better=True)
    warnings = _warnings(a, b, device_a, device_b, same_metric=same_metric)
    names = (
        " / ".join(dict.fromkeys(d.name for d in (device_a, device_b) if d is not None))
    ) or wording.NOT_MEASURED
    return Comparison(
        name_a=a.name, name_b=b.name, device=names, changes=tuple(changes), warnings=tuple(warnings)
    )


def _devices(a: Report, b: Report) -> tuple[Device | None, Device | None]:
    first = content.primary_device(a)
    if first is not None:
        for device in b.devices:
            if device.name == first.name and device.result is not None:
                return first, device
    return first, content.primary_device(b)


def _warnings(
    a: Report, b: Report, device_a: Device | None, device_b: Device | None, *, same_metric: bool
) -> list[str]:
    found = []
    for report, device in ((a, device_a), (b, device_b)):
        if device is None:
            found.append(f"{report.name!r} has no result to compare.")
    if not same_metric:
        metrics = " and ".join(f"{wording.metric_label(r)}" for r in (a, b))
        found.append(f"The metrics differ ({metrics}) and are not compared.")
    if a.evaluation.split != b.evaluation.split or a.evaluation.rows != b.evaluation.rows:
        rows = " and ".join(f"{r.evaluation.split} ({r.evaluation.rows or 'unknown'} rows)" for r in (a, b))
        found.append(f"The metric is computed on different rows: {rows}.")
    for split in ("train", "validation", "test"):
        hashes = [{f.sha256 for f in r.lineage.data if f.split == split} for r in (a, b)]
        if hashes[0] != hashes[1]:
            found.append(f"The {split} data differ.")
    if a.lineage.teacher.sha256 != b.lineage.teacher.sha256:
        found.append("The teachers differ: compare metrics, not drops.")
    found += _machine_warnings(a, b, device_a, device_b)
    return found


def _machine_warnings(a: Report, b: Report, device_a: Device | None, device_b: Device | None) -> list[str]:
    found = []
    if device_a and device_b:
        if device_a.name != device_b.name:
            found.append(f"The devices differ: {device_a.name} and {device_b.name}.")
        if device_a.threads != device_b.threads:
            found.append(f"The thread counts differ: {device_a.threads} and {device_b.threads}.")
    e, f = a.environment, b.environment
    if (e.cpu, e.architecture, e.cores) != (f.cpu, f.architecture, f.cores):
        machines = " and ".join(
            f"{m.cpu or 'unknown processor'}, {m.cores or 'unknown'} cores" for m in (e, f)
        )
        found.append(f"The machines differ ({machines}): compare speedups, not milliseconds.")
    for package in _DECISIVE_PACKAGES:
        versions = (e.packages.get(package), f.packages.get(package))
        if versions[0] != versions[1]:
            found.append(f"{package} differs: {versions[0] or 'absent'} and {versions[1] or 'absent'}.")
    return found


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the differences as a table, doubts first."""
    for warning in comparison.warnings:
        console.print(Text("Warning: ", style="yellow").append(wording.one_line(warning), style="default"))
    table = Table(box=None, title=f"On {wording.one_line(comparison.device)}", title_justify="left")
    table.add_column("")
    # "A" and "B" as well as the names: two runs are often called the same.
    for letter, name in (("A", comparison.name_a), ("B", comparison.name_b)):
        table.add_column(Text(f"{letter}: {wording.shortened(name, 24)}"), justify="right")
    table.add_column("B against A", justify="right")
    for change in comparison.changes:
        write = _WRITERS[change.unit]
        style = "" if change.better is None else "green" if change.better else "red"
        table.add_row(change.name, write(change.a), write(change.b), Text(_difference(change), style=style))
    console.print(table)


def _difference(change: Change) -> str:
    if change.a is None or change.b is None or change.change is None:
        return ""
    if change.change == 0:
        return "same"
    if change.unit in ("fraction", "points"):
        return f"{wording.points(change.change, plus=True)} points"
    if change.a == 0:
        return ""
    return wording.signed(f"{100 * change.change / change.a:+.1f}%")
