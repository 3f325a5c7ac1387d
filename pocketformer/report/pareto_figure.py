"""The Pareto picture as inline SVG: what the search saw, which models no other beats, and what was chosen."""

from __future__ import annotations

from typing import Literal

from pocketformer.report import wording
from pocketformer.report.front import non_dominated
from pocketformer.report.schema import ParetoPoint, Report
from pocketformer.report.svg import Canvas, Labels, LinearScale, LogScale

Axis = Literal["latency_ms", "file_mb"]

_TEXT = 12.5


def pareto_figure(report: Report, axis: Axis) -> str | None:
    """Metric against latency or size (log): all points, their front, the teacher and the chosen one."""
    shown = [p for p in report.pareto if getattr(p, axis) > 0]
    if len(shown) < 2:
        return None
    canvas = Canvas(460, 320)
    left, top, right, bottom = 48.0, 26.0, 444.0, 268.0
    values = [float(getattr(p, axis)) for p in shown]
    budget = report.budget
    limit = budget.max_latency_ms if axis == "latency_ms" and budget.latency_workload == "real" else None
    limit = budget.max_size_mb if axis == "file_mb" else limit
    reach = [*values, limit] if limit else values
    x = LogScale((min(reach) / 1.35, max(reach) * 1.35), (left, right))
    floor, ceiling = _metric_domain(report, shown)
    y = LinearScale((floor, ceiling), (bottom, top))

    write = wording.milliseconds if axis == "latency_ms" else wording.megabytes
    for tick in y.ticks(4):
        canvas.line(left, y(tick), right, y(tick), "grid")
        canvas.text(
            left - 8,
            y(tick) + 4,
            wording.percent(tick, 0 if wording.is_whole_percent(tick) else 1),
            "tick",
            "end",
        )
    for tick in x.ticks():
        canvas.text(x(tick), bottom + 18, f"{tick:g}", "tick", "middle")
    canvas.line(left, bottom, right, bottom, "axis")
    name = "p50 on real inputs, ms" if axis == "latency_ms" else "model files, MB"
    canvas.text(right, bottom + 38, f"{name} (log) · smaller is better ←", "tick", "end")
    canvas.text(0, 12, f"validation {wording.metric_label(report)}", "tick")

    labels = Labels(left, top - 8, right + 12, bottom - 2)
    _draw_limits(canvas, report, shown, labels, x, y, limit, (left, right, top, bottom))
    front = non_dominated([(v, -p.metric) for v, p in zip(values, shown, strict=True)])
    line = sorted((x(v), y(p.metric)) for v, p, on in zip(values, shown, front, strict=True) if on)
    canvas.path(_staircase(line), "front")
    labels.avoid_line(_staircase(line))
    order = sorted(range(len(shown)), key=lambda i: (shown[i].chosen, shown[i].role == "teacher", front[i]))
    for i in order:
        labels.keep_clear(x(values[i]), y(shown[i].metric), 5)
    for i in order:
        point, px, py = shown[i], x(values[i]), y(shown[i].metric)
        tooltip = f"{point.name}: {wording.percent(point.metric)}, {write(values[i])}"
        _draw_point(canvas, point, px, py, tooltip, below=point.metric < floor, on_front=front[i])
    for i in reversed(order):
        if shown[i].metric < floor or not (front[i] or shown[i].chosen or shown[i].role == "teacher"):
            continue
        css = "label-result" if shown[i].chosen else "label-torch" if shown[i].role == "teacher" else "label"
        text = wording.shortened(shown[i].name, 30)
        px, py = x(values[i]), y(shown[i].metric)
        spot = labels.place(
            px, py, text, _TEXT, (14.0, 30.0, 46.0, 62.0, 90.0) if shown[i].chosen else (11.0,)
        )
        if spot is not None:
            if spot[3] > 14.0:
                end = spot[1] - _TEXT * 0.9 if spot[1] > py else spot[1] + 4
                canvas.line(px, py, spot[0] if spot[2] != "middle" else px, end, "leader")
            canvas.text(spot[0], spot[1], text, f"{css} halo-text", spot[2])
    chosen = next((p for p in shown if p.chosen), None)
    choice = (
        f" Chosen: {chosen.name}, {wording.percent(chosen.metric)}, {write(getattr(chosen, axis))}."
        if chosen
        else ""
    )
    return canvas.render(f"{len(shown)} models, {wording.metric_label(report)} against {name}.{choice}")


def _metric_domain(report: Report, shown: list[ParetoPoint]) -> tuple[float, float]:
    """The range worth seeing: a collapsed candidate must not flatten all others (it is drawn at the edge)."""
    best = max(p.metric for p in shown)
    kept = [best]
    kept += [p.metric for p in shown if p.chosen or p.role == "teacher"]
    window = max(0.06, 5 * (report.budget.max_drop or 0.0), 1.5 * (best - min(kept)))
    lowest = min(p.metric for p in shown if p.metric >= best - window)
    pad = max((best - lowest) * 0.14, 0.004)
    return lowest - pad, min(best + pad, 1.0 + pad)


def _draw_limits(
    canvas: Canvas,
    report: Report,
    shown: list[ParetoPoint],
    labels: Labels,
    x: LogScale,
    y: LinearScale,
    limit: float | None,
    frame: tuple[float, float, float, float],
) -> None:
    left, right, top, bottom = frame
    teacher = next((p for p in shown if p.role == "teacher"), None)
    drop = report.budget.max_drop
    if teacher is not None and drop is not None and y.domain[0] < teacher.metric - drop < y.domain[1]:
        height = y(teacher.metric - drop)
        canvas.line(left, height, right, height, "limit")
        text = f"budget: {wording.points_in_words(drop)} below the teacher"
        canvas.text(right, height + 14, text, "limit-label", "end")
        labels.taken.append((right - 6.2 * len(text), height - 1, right, height + 17))
        labels.avoid_line([(left, height), (right, height)])
    if limit is not None:
        canvas.line(x(limit), top, x(limit), bottom, "limit")
        canvas.text(x(limit) - 5, bottom - 8, "budget", "limit-label", "end")
        labels.taken.append((x(limit) - 48, bottom - 20, x(limit) + 1, bottom))
        labels.avoid_line([(x(limit), top), (x(limit), bottom)])


def _draw_point(
    canvas: Canvas, point: ParetoPoint, x: float, y: float, tooltip: str, *, below: bool, on_front: bool
) -> None:
    if below:
        canvas.path(
            [(x - 5, y - 9), (x + 5, y - 9), (x, y - 1)],
            "point",
            closed=True,
            tooltip=tooltip + " (off scale)",
        )
    elif point.chosen:
        canvas.dot(x, y, 11, "halo")
        canvas.dot(x, y, 6.5, "fill-result", tooltip)
    elif point.role == "teacher":
        canvas.path(
            [(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)], "fill-torch", closed=True, tooltip=tooltip
        )
    else:
        canvas.dot(x, y, 4.5 if on_front else 4, "point-front" if on_front else "point", tooltip)


def _staircase(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    steps = line[:1]
    for x, y in line[1:]:
        steps += [(x, steps[-1][1]), (x, y)]
    return steps
