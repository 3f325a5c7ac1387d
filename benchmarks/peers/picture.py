"""The result file as a picture: for each data set, how many times faster than PyTorch eager, and how large."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peers.markdown import NAMES, VALUES, milliseconds
from peers.setups import OURS

_OURS, _PEER, _UNFIT, _INK, _QUIET = "#0f766e", "#94a3b8", "#e2e8f0", "#0f172a", "#64748b"
_WORKLOADS = {
    "real": "real texts, one at a time",
    "1x32": "1 x 32 tokens",
    "1x128": "1 x 128 tokens",
    "8x128": "8 x 128 tokens",
}


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Write ``path`` as SVG and as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    data = list(content["data"])
    if not data:
        return
    longest = max(len(about["setups"]) for about in content["data"].values())
    style = {"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "pocketformer", "text.color": _INK}
    with mpl.rc_context(style):
        figure, axes = plt.subplots(
            len(data), 5, figsize=(17, 1.7 + 0.36 * longest * len(data)), sharey="row", squeeze=False
        )
        for line, name in zip(axes, data, strict=True):
            _draw_data(line, content, name)
        _title(figure, content)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=130)
        plt.close(figure)


def _draw_data(line: Any, content: Mapping[str, Any], data: str) -> None:
    about = content["data"][data]
    rows = [row for row in content["rows"] if row["data"] == data]
    names = list(reversed(about["setups"]))
    by_name = {name: [row for row in rows if row["setup"] == name] for name in names}
    labels = [_label(about, name, by_name[name][0]) for name in names]
    for axis, workload in zip(line, _WORKLOADS, strict=False):
        shown = [next(row for row in by_name[name] if row["workload"] == workload) for name in names]
        values = [row["faster_than_eager"] or 0.0 for row in shown]
        notes = [_note(row) for row in shown]
        _bars(axis, names, values, notes, [_fits(row, content["max_drop"]) for row in shown])
        axis.set_title(_WORKLOADS[workload], loc="left", fontsize=10, color=_INK)
    sizes = [by_name[name][0] for name in names]
    megabytes = [0.0 if row["error"] else (row["file_mb"] or 0.0) for row in sizes]
    _bars(
        line[4],
        names,
        megabytes,
        ["" if not value else f"{value:.1f} MB" for value in megabytes],
        [_fits(row, content["max_drop"]) for row in sizes],
    )
    line[4].set_title("model files (shorter is better)", loc="left", fontsize=10, color=_INK)
    line[0].set_yticks(range(len(names)), labels)
    for tick, name in zip(line[0].get_yticklabels(), names, strict=True):
        tick.set_color(_OURS if name == OURS else _INK)
        tick.set_fontweight("bold" if name == OURS else "normal")
    line[0].set_ylabel(f"MiniLM-L6, {NAMES.get(data, data)}", fontsize=11, labelpad=12)


def _bars(axis: Any, names: list[str], values: list[float], notes: list[str], fits: list[bool]) -> None:
    colours = [_OURS if n == OURS else _PEER if fit else _UNFIT for n, fit in zip(names, fits, strict=True)]
    axis.barh(range(len(names)), values, color=colours, height=0.72)
    reach = max([*values, 1e-9])
    for position, (name, value, note) in enumerate(zip(names, values, notes, strict=True)):
        axis.text(
            value + reach * 0.015,
            position,
            note,
            va="center",
            fontsize=8,
            color=_OURS if name == OURS else _QUIET,
            fontweight="bold" if name == OURS else "normal",
        )
    axis.set_xlim(0, reach * 1.42)
    axis.tick_params(left=False, bottom=False, labelbottom=False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _label(about: Mapping[str, Any], name: str, row: Mapping[str, Any]) -> str:
    title = about["setups"][name]["title"]
    if row["error"]:
        return f"{title}: failed"
    value = (
        ""
        if row["metric"] is None
        else f"  {VALUES.get(about['metric'], about['metric'])} {row['metric']:.3f}"
    )
    return f"{title}{value}"


def _note(row: Mapping[str, Any]) -> str:
    if row["faster_than_eager"] is None:
        return ""
    return f"{row['faster_than_eager']:.1f}x  {milliseconds(row['p50_ms'])} ms"


def _fits(row: Mapping[str, Any], max_drop: float) -> bool:
    return row["drop"] is not None and row["drop"] <= max_drop + 1e-9


def _title(figure: Any, content: Mapping[str, Any]) -> None:
    environment = content["environment"]
    vnni = "with VNNI" if "vnni" in environment["cpu_flags"] else "AVX2 without VNNI"
    if "vnni" not in environment["cpu_flags"] and "avx512" in environment["cpu_flags"]:
        vnni = "AVX-512 without VNNI"
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.19, right=0.99, top=1 - 1.05 / height, bottom=0.45 / height, wspace=0.08, hspace=0.22
    )
    figure.text(
        0.012,
        1 - 0.38 / height,
        "Times faster than PyTorch eager, from the same teacher",
        fontsize=16,
        weight="bold",
    )
    figure.text(
        0.012,
        1 - 0.66 / height,
        f"p50 on {environment['cpu']}, {vnni}, {environment['threads']} threads each; all setups timed in turns, "
        "one at a time",
        fontsize=10,
        color=_QUIET,
    )
    figure.text(
        0.012,
        0.16 / height,
        f"Pale: answers more than {content['max_drop'] * 100:.1f} points worse than the teacher on the test texts. "
        "Files without the tokenizer, which each needs alike.",
        fontsize=9,
        color=_QUIET,
    )
