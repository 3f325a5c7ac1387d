"""The report's pictures as inline SVG. One function a picture; ``None`` when there is nothing to draw.

Colours mean the same everywhere: the teacher in PyTorch, the teacher in onnxruntime, the result. Every mark
that matters carries its name and number beside it, so that no legend is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pocketformer.report import content, wording
from pocketformer.report.pareto_figure import Axis, pareto_figure
from pocketformer.report.schema import Device, Measurement, Report
from pocketformer.report.svg import Canvas, LinearScale, LogScale

Floats = NDArray[np.float64]
StepPart = Literal["file_mb", "latency_ms", "metric"]

__all__ = [
    "Axis",
    "StepPart",
    "class_figure",
    "count_figure",
    "interval_figure",
    "latency_figure",
    "pareto_figure",
    "reference_figure",
    "waterfall_figure",
]

_MODEL_CSS = {"torch_eager": "torch", "onnxruntime_fp32": "ort", "result": "result"}
_MODEL_SHORT = {"torch_eager": "PyTorch eager", "onnxruntime_fp32": "onnxruntime fp32", "result": "Result"}


def waterfall_figure(report: Report, part: StepPart) -> str | None:
    """One row a step, from the teacher to what ships: what is left, and what the step took away."""
    steps = [s for s in report.steps if getattr(s, part) is not None]
    if len(steps) < 2:
        return None
    row, top = 50.0, 8.0
    canvas = Canvas(316, top + row * len(report.steps))
    values = [float(getattr(s, part)) for s in steps]
    before: float | None = None
    for index, step in enumerate(report.steps):
        y = top + row * index
        canvas.text(0, y + 12, wording.shortened(step.name, 34), "label")
        value = getattr(step, part)
        if value is None:
            canvas.text(316, y + 12, wording.NOT_MEASURED, "tick", "end")
            continue
        css = "torch" if index == 0 else "result" if step is report.steps[-1] else "step"
        if part == "metric":
            _metric_row(canvas, report, values, y, value, before, css)
        else:
            write = wording.megabytes if part == "file_mb" else wording.milliseconds
            _bar_row(canvas, max(values), y, value, before, css, write)
        before = value
    names = {
        "file_mb": "size of the model files",
        "latency_ms": "p50 latency on real inputs",
        "metric": "metric",
    }
    first, last = (_amount(part, v) for v in (values[0], values[-1]))
    return canvas.render(
        f"What each step did to the {names[part]}: from {first} to {last} in {len(steps)} steps."
    )


def _amount(part: str, value: float) -> str:
    if part == "metric":
        return wording.percent(value)
    return wording.megabytes(value) if part == "file_mb" else wording.milliseconds(value)


def _bar_row(
    canvas: Canvas,
    largest: float,
    y: float,
    value: float,
    before: float | None,
    css: str,
    write: Callable[[float | None], str],
) -> None:
    x = LinearScale((0.0, largest), (0.0, 316.0))
    if before is not None:
        canvas.rect(
            x(min(value, before)),
            y + 21,
            abs(x(before) - x(value)),
            12,
            "gone" if value <= before else "added",
        )
    canvas.rect(0, y + 21, max(x(value if before is None else min(value, before)), 2), 12, f"fill-{css}", 1.5)
    canvas.text(316, y + 12, write(value), "value", "end")


def _metric_row(
    canvas: Canvas,
    report: Report,
    values: list[float],
    y: float,
    value: float,
    before: float | None,
    css: str,
) -> None:
    drop = report.budget.max_drop
    limit = None if drop is None else values[0] - drop
    reach = values if limit is None else [*values, limit]
    pad = max((max(reach) - min(reach)) * 0.1, 0.001)
    x = LinearScale((min(reach) - pad, max(reach) + pad), (6.0, 310.0))
    canvas.line(0, y + 27, 316, y + 27, "grid")
    if limit is not None:
        canvas.line(x(limit), y + 19, x(limit), y + 35, "limit")
        if before is None:
            canvas.text(x(limit) + 5, y + 40, "budget", "limit-label")
    if before is not None:
        canvas.line(x(before), y + 27, x(value), y + 27, f"link-{css}")
        canvas.dot(x(before), y + 27, 3, "point-open")
    canvas.dot(x(value), y + 27, 6, f"fill-{css}")
    shown = wording.percent(value)
    if before is not None:
        change = wording.points(value - before, plus=True)
        shown += f" ({change})"
    canvas.text(316, y + 12, shown, "value", "end")


def latency_figure(device: Device, workload: str) -> str | None:
    """The distribution of timed calls of each model on one workload (log axis), with p50, p90 and p99."""
    shown = [c for c in content.columns(device) if workload in c.measurement.latency_ms]
    if not shown:
        return None
    row, top = 60.0, -8.0
    bottom = top + row * len(shown)
    canvas = Canvas(460, bottom + 26)
    low, high = _latency_domain([c.measurement for c in shown], workload)
    x = LogScale((low, high), (4.0, 456.0))
    for tick in x.ticks(5):
        canvas.line(x(tick), max(top + 18, 0), x(tick), bottom, "grid")
        canvas.text(min(max(x(tick), 8), 440), bottom + 18, f"{tick:g} ms", "tick", "middle")
    for index, column in enumerate(shown):
        base, css = top + row * (index + 1) - 10, _MODEL_CSS[column.key]
        p = column.measurement.latency_ms[workload]
        samples = column.measurement.latency_samples_ms.get(workload, [])
        if len(samples) >= 8:
            canvas.path(_ridge(samples, x, base, 28.0), f"ridge-{css}", closed=True)
        canvas.line(x(p.p50), base, x(p.p99), base, f"whisker-{css}")
        canvas.line(x(p.p50), base, x(p.p90), base, f"box-{css}")
        canvas.line(x(p.p50), base - 7, x(p.p50), base + 5, f"median-{css}")
        label = f"{_MODEL_SHORT[column.key]}  {wording.milliseconds(p.p50)}"
        room = 456.0 - x(p.p50)
        needed = 6.6 * len(label)
        anchor = "start" if room >= needed - 6 else "end"
        canvas.text(
            x(p.p50) - 1 if anchor == "start" else min(x(p.p99) + 2, 458),
            base - 34,
            label,
            f"label-{css}",
            anchor,
        )
    said = ", ".join(
        f"{c.label} {wording.milliseconds(c.measurement.latency_ms[workload].p50)}" for c in shown
    )
    return canvas.render(f"{wording.workload_label(workload)}, median latency: {said}.")


def _latency_domain(measurements: list[Measurement], workload: str) -> tuple[float, float]:
    lows, highs = [], []
    for m in measurements:
        p, samples = m.latency_ms[workload], m.latency_samples_ms.get(workload, [])
        lows.append(min([p.p50, *samples]))
        highs.append(p.p99)
    return max(min(lows), 1e-6) / 1.15, max(highs) * 1.25


def _ridge(samples: list[float], x: LogScale, base: float, height: float) -> list[tuple[float, float]]:
    """A Gaussian kernel density of the logarithm; Silverman's width, from the quartiles."""
    logs: Floats = np.log(np.maximum(np.asarray(samples, dtype=np.float64), 1e-9))
    spread = float(np.subtract(*np.percentile(logs, [75, 25]))) / 1.349
    reach = math.log(x.domain[1] / x.domain[0])
    width = max(0.9 * spread * len(samples) ** -0.2, reach / 220)
    grid: Floats = np.linspace(math.log(x.domain[0]), math.log(x.domain[1]), 226)
    density: Floats = np.exp(-0.5 * ((grid[:, None] - logs[None, :]) / width) ** 2).sum(axis=1)
    tallest = float(density.max())
    kept = [
        (math.exp(g), d / tallest)
        for g, d in zip(grid.tolist(), density.tolist(), strict=True)
        if d > tallest * 4e-3
    ]
    outline = [(x(g), base - height * d) for g, d in kept]
    return [(outline[0][0], base), *outline, (outline[-1][0], base)]


def interval_figure(report: Report) -> str | None:
    """The drop with its 95% interval, no change and the budget's limit, in points."""
    device = content.primary_device(report)
    result = device.result if device else None
    if result is None or result.drop is None:
        return None
    low, high = result.drop_ci95 or (result.drop, result.drop)
    limit = report.budget.max_drop
    ends = [0.0, low, high, result.drop] + ([] if limit is None else [limit])
    pad = max((max(ends) - min(ends)) * 0.18, 0.002)
    canvas = Canvas(460, 92)
    x = LinearScale((min(ends) - pad, max(ends) + pad), (0.0, 460.0))
    canvas.line(0, 46, 460, 46, "grid")
    canvas.line(x(0.0), 30, x(0.0), 62, "axis")
    canvas.text(x(0.0), 80, "no change", "tick", "middle")
    if limit is not None and abs(x(limit) - x(0.0)) > 4:
        canvas.line(x(limit), 30, x(limit), 62, "limit")
        near = abs(x(limit) - x(0.0)) < 110
        canvas.text(x(limit), 22 if near else 80, f"budget {wording.points(limit)}", "limit-label", "middle")
    if result.drop_ci95 is not None:
        canvas.line(x(low), 46, x(high), 46, "interval")
    canvas.dot(x(result.drop), 46, 7, "fill-result")
    canvas.text(x(result.drop), 22, wording.points(result.drop), "label-result", "middle")
    return canvas.render(
        f"Drop {wording.points_in_words(result.drop)}, "
        f"95% interval {wording.interval(result.drop_ci95, as_points=True)}."
    )


def reference_figure(report: Report) -> str | None:
    """Teacher, result and the models to compare with: metric and 95% interval of each."""
    device = content.primary_device(report)
    if device is None:
        return None
    references = report.references
    rows = [
        ("Teacher", content.teacher_of(device), "torch"),
        ("Result", device.result, "result"),
        ("Same student, labels only", references.student_without_teacher, "other"),
        ("TF-IDF + logistic regression", references.tfidf_logistic_regression, "other"),
    ]
    shown = [
        (n, m.metric, m.metric_ci95, css) for n, m, css in rows if m is not None and m.metric is not None
    ]
    if len(shown) < 2:
        return None
    ends = [v for _, metric, bounds, _ in shown for v in (metric, *(bounds or ()))]
    pad = max((max(ends) - min(ends)) * 0.06, 0.002)
    row = 46.0
    canvas = Canvas(460, row * len(shown) + 26)
    x = LinearScale((min(ends) - pad, max(ends) + pad), (6.0, 454.0))
    for tick in x.ticks(5):
        canvas.line(x(tick), 4, x(tick), row * len(shown), "grid")
        canvas.text(
            min(max(x(tick), 14), 446),
            row * len(shown) + 18,
            wording.percent(tick, 0 if wording.is_whole_percent(tick) else 1),
            "tick",
            "middle",
        )
    for index, (name, metric, bounds, css) in enumerate(shown):
        y = row * index + 32
        canvas.text(0, y - 14, name, "label halo-text")
        canvas.text(460, y - 14, wording.percent(metric), "value halo-text", "end")
        if bounds is not None:
            canvas.line(x(bounds[0]), y, x(bounds[1]), y, f"interval-{css}")
        canvas.dot(x(metric), y, 6, f"fill-{css}")
    return canvas.render("; ".join(f"{name} {wording.percent(metric)}" for name, metric, _, _ in shown))


def class_figure(f1: float, teacher_f1: float | None, lowest: float) -> str:
    """A small picture for a table row: F1 of teacher (open) and result (filled), ``lowest`` to 1."""
    canvas = Canvas(160, 16)
    x = LinearScale((max(lowest - 0.03, 0.0), 1.0), (7.0, 153.0))
    canvas.line(0, 8, 160, 8, "grid")
    if teacher_f1 is not None:
        canvas.line(x(teacher_f1), 8, x(f1), 8, "link-step")
        canvas.dot(x(teacher_f1), 8, 4.5, "open-torch")
    canvas.dot(x(f1), 8, 4.5, "fill-result")
    said = f"F1 {wording.percent(f1)}"
    return canvas.render(
        said if teacher_f1 is None else f"{said}, teacher {wording.percent(teacher_f1)}", "spark"
    )


def count_figure(count: int, largest: int) -> str:
    """A small bar for a table row."""
    canvas = Canvas(160, 12)
    canvas.rect(0, 0, max(160 * count / largest, 1.5) if largest else 0, 12, "fill-step", 1.5)
    return canvas.render(wording.counted(count, "row"), "spark")
