"""The report's pictures as PNG files, for a README or slides (matplotlib; the page has its own SVG)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.report import content, wording
from pocketformer.report.front import non_dominated
from pocketformer.report.schema import Device, Report
from pocketformer.runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _SOFT, _GRID, _PAGE = "#1b2126", "#5a656f", "#e6e8e6", "#fbfbf9"
_RESULT, _STEP, _LIMIT = "#1f57c3", "#7c9fdd", "#b3261e"
_COLOURS = {"torch_eager": "#59636e", "onnxruntime_fp32": "#925710", "result": _RESULT}
_STYLE: Any = {
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": _GRID,
    "axes.facecolor": _PAGE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.axisbelow": True,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.facecolor": _PAGE,
    "grid.color": _GRID,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    # A "$" in a label is a dollar, not mathematics.
    "text.parse_math": False,
}


def save_png(report: Report, directory: str | Path) -> list[Path]:
    """Write ``pareto.png``, ``waterfall.png`` and ``latency.png``; a picture without data is left out.

    Returns the paths written. ``MissingDependencyError`` without matplotlib.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "pictures need matplotlib, which is not installed", hint="pip install 'pocketformer[compress]'"
        ) from error
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    makers: tuple[tuple[str, Callable[[Report, type[Figure]], Figure | None]], ...] = (
        ("pareto.png", _pareto),
        ("waterfall.png", _waterfall),
        ("latency.png", _latency),
    )
    written = []
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A script that the font lacks shows as boxes; that is no reason to fail a run.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for name, make in makers:
            figure = make(report, Figure)
            if figure is not None:
                figure.savefig(target / name, dpi=160, bbox_inches="tight", pad_inches=0.25)
                written.append(target / name)
    return written


def _pareto(report: Report, figure_type: type[Figure]) -> Figure | None:
    shown = [p for p in report.pareto if p.latency_ms > 0 and p.file_mb > 0]
    if len(shown) < 2:
        return None
    figure = figure_type(figsize=(10.5, 4.2), layout="constrained")
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=4, foreground=_PAGE)]
    leader = {"arrowstyle": "-", "color": _RESULT, "shrinkB": 6, "relpos": (0.0, 0.5)}
    best = max(p.metric for p in shown)
    known = [p.metric for p in shown if p.chosen or p.role == "teacher" or p.metric > best - 0.06]
    for axes, name, label in zip(
        figure.subplots(1, 2, sharey=True),
        ("latency_ms", "file_mb"),
        ("p50 on real inputs, ms", "model files, MB"),
        strict=True,
    ):
        values = [float(getattr(p, name)) for p in shown]
        front = non_dominated([(v, -p.metric) for v, p in zip(values, shown, strict=True)])
        line = sorted((v, 100 * p.metric) for v, p, on in zip(values, shown, front, strict=True) if on)
        axes.step(*zip(*line, strict=True), where="post", color=_STEP, zorder=1)
        for value, point, on in zip(values, shown, front, strict=True):
            special = point.chosen or point.role == "teacher"
            colour = _RESULT if point.chosen else _COLOURS["torch_eager"] if special else _STEP
            axes.scatter(
                value, 100 * point.metric, s=90 if special else 32,
                marker="D" if point.role == "teacher" else "o",
                color=colour if on or special else _PAGE, edgecolor=colour, zorder=3 if special else 2,
            )  # fmt: skip
            if special:
                axes.annotate(
                    wording.shortened(point.name, 34), (value, 100 * point.metric), zorder=4, color=colour,
                    xytext=(24, -50) if point.chosen else (0, 10), textcoords="offset points", weight="bold",
                    ha="left" if point.chosen else "right", path_effects=halo,
                    arrowprops=leader if point.chosen else None,
                )  # fmt: skip
        teacher = next((p for p in shown if p.role == "teacher"), None)
        if teacher is not None and report.budget.max_drop is not None:
            height = 100 * (teacher.metric - report.budget.max_drop)
            axes.axhline(height, color=_LIMIT, linestyle="--", linewidth=1)
            axes.annotate(
                f"budget: {wording.points_in_words(report.budget.max_drop)} below the teacher", (1, height),
                xycoords=("axes fraction", "data"), xytext=(0, -11), textcoords="offset points", color=_LIMIT,
                fontsize=9, ha="right", path_effects=halo,
            )  # fmt: skip
        spread = max(best - min(known), 0.004)
        axes.set(
            xscale="log",
            xlabel=f"{label} (log)",
            ylim=(100 * (min(known) - 0.15 * spread), 100 * (best + 0.3 * spread)),
        )
        axes.margins(x=0.15)
        _plain_ticks(axes)
        axes.yaxis.set_major_formatter(lambda v, _: f"{v:g}%")
        axes.grid(axis="y")
        axes.set_title(
            f"{wording.capitalised(wording.metric_label(report))} against "
            f"{'latency' if name == 'latency_ms' else 'size'}"
        )
    return figure


def _plain_ticks(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _waterfall(report: Report, figure_type: type[Figure]) -> Figure | None:
    if len(report.steps) < 2:
        return None
    figure = figure_type(figsize=(10.5, 0.45 * len(report.steps) + 1.2), layout="constrained")
    parts: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
        ("file_mb", "Size", wording.megabytes),
        ("latency_ms", "Latency, real inputs", wording.milliseconds),
        ("metric", f"Validation {wording.metric_label(report)}", wording.percent),
    )
    names = [wording.shortened(s.name, 34) for s in report.steps]
    rows = list(range(len(names)))
    for axes, (part, title, write) in zip(figure.subplots(1, 3, sharey=True), parts, strict=True):
        values = [getattr(s, part) for s in report.steps]
        known = [v for v in values if v is not None]
        before: float | None = None
        for row, value in zip(rows, values, strict=True):
            colour = _COLOURS["torch_eager"] if row == 0 else _RESULT if row == rows[-1] else _STEP
            if value is not None and part == "metric":
                axes.plot(
                    [value if before is None else before, value], [row, row], color=colour, linewidth=1.5
                )
                axes.scatter(value, row, s=45, color=colour, zorder=3)
            elif value is not None:
                axes.barh(row, max(value, before or 0.0), height=0.5, color=_GRID)
                axes.barh(row, value, height=0.5, color=colour)
            axes.text(1.02, row, write(value), transform=axes.get_yaxis_transform(), va="center", fontsize=9)
            before = value if value is not None else before
        if known and part == "metric":
            pad = max((max(known) - min(known)) * 0.2, 0.002)
            axes.set_xlim(min(known) - pad, max(known) + pad)
        axes.set_title(title)
        axes.set_yticks(rows, names)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks([])
        axes.tick_params(length=0, labelcolor=_INK)
        axes.spines[:].set_visible(False)
    return figure


def _latency(report: Report, figure_type: type[Figure]) -> Figure | None:
    device = content.primary_device(report)
    rows = content.latency_rows(device) if device is not None else []
    if device is None or not rows:
        return None
    figure = figure_type(figsize=(10.5, 1.9 * ((len(rows) + 1) // 2) + 0.4), layout="constrained")
    grid = figure.subplots((len(rows) + 1) // 2, 2, squeeze=False)
    for axes, row in zip(grid.flat, rows, strict=False):
        _latency_panel(axes, device, row)
    for axes in list(grid.flat)[len(rows) :]:
        axes.set_visible(False)
    return figure


def _latency_panel(axes: Axes, device: Device, row: content.LatencyRow) -> None:
    shown = [c for c in content.columns(device) if row.latency[c.key] is not None]
    for index, column in enumerate(shown):
        p, colour = row.latency[column.key], _COLOURS[column.key]
        if p is not None:
            axes.plot([p.p50, p.p99], [index, index], color=colour, linewidth=1.2)
            axes.plot([p.p50, p.p90], [index, index], color=colour, linewidth=4, solid_capstyle="butt")
            axes.scatter(p.p50, index, s=40, color=colour, zorder=3)
            text = f"{column.label.removeprefix('Teacher, ')}  {wording.milliseconds(p.p50)}"
            right = column.key != "result" and len(shown) > 1
            axes.annotate(
                text, (p.p50, index), xytext=(0, 8), textcoords="offset points", color=colour, weight="bold",
                fontsize=9, ha="right" if right else "left",
            )  # fmt: skip
    axes.set(xscale="log", ylim=(len(shown) - 0.6, -0.8), yticks=[])
    axes.margins(x=0.12)
    _plain_ticks(axes)
    axes.xaxis.set_major_formatter(lambda v, _: f"{v:g} ms")
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    faster = "" if row.vs_torch == wording.NOT_MEASURED else f": {row.vs_torch} faster than PyTorch"
    axes.set_title(f"{row.label}{faster}")
