"""report.md: the report as GitHub-flavoured Markdown, for a repository or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pocketformer.report import content, verdict, wording
from pocketformer.report.bound_rows import HEADER, bound_rows, roof_sentence
from pocketformer.report.gpu_facts import gpu_facts
from pocketformer.report.schema import Device, Report
from pocketformer.report.side_by_side import NOTHING, SideBySide, side_by_side

_INLINE = r"([\\`*_\[\]|~$])"
_SPECIAL = re.compile(_INLINE + r"|^(\d+(?=[.)])|[-+#])")
_IN_A_CELL = re.compile(_INLINE)


def escape(text: str, *, in_cell: bool = False) -> str:
    """A user's text on one line in which Markdown and HTML mean nothing; a cell begins no line."""
    plain = wording.one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # "@name" would notify somebody on GitHub, and a bare address would become a link.
    plain = plain.replace("@", "&#64;").replace("://", "&#58;//").replace("www.", "www&#46;")
    special = _IN_A_CELL if in_cell else _SPECIAL
    return special.sub(lambda found: found[0] + "\u200b" if found[0].isdigit() else "\\" + found[0], plain)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> str:
    """A Markdown table of escaped cells; columns from ``numbers_from`` on are right-aligned."""
    rule = ["---" if i < numbers_from else "---:" for i in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def render_markdown(report: Report) -> str:
    """The whole report as Markdown, ending in a newline."""
    parts = [f"# {escape(report.name)}", _verdict(report)]
    together = side_by_side(report)
    if together is not None:
        parts.append(_devices(together))
    parts += [_device(report, device) for device in content.with_section(report)]
    parts += [
        _steps(report),
        _search(report),
        _quality(report),
        _flips(report),
        _data(report),
        _origin(report),
    ]
    parts.append(
        f"*Pocketformer {escape(report.pocketformer_version)}, {report.created:%Y-%m-%d %H:%M %Z}. "
        "Points are hundredths of the metric; MB are 10^6 bytes; p50, p90, p99 are percentiles of "
        "timed calls.*"
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(report: Report) -> str:
    mark = "✅ Budget met" if report.budget_met else "❌ Budget not met"
    parts = [f"**{mark}.** {escape(content.verdict_sentence(report))}"]
    headlines = content.headlines(report)
    if headlines:
        cells = [[f"**{h.value}** {h.label}", escape(h.detail)] for h in headlines]
        parts.append(table(["Result", "Behind it"], cells, numbers_from=2))
    if report.needed:
        parts.append("What would be needed:\n\n" + "\n".join(f"- {escape(line)}" for line in report.needed))
    if report.warnings:
        parts.append("\n".join(f"> ⚠️ {escape(w.message)}  " for w in report.warnings))
    if report.budget_checks:
        rows = [
            [
                f"{verdict.limit_label(c)} ({escape(c.device)})",
                verdict.amount(c, c.limit),
                verdict.amount(c, c.measured),
                wording.NOT_MEASURED if c.met is None else "yes" if c.met else "**no**",
            ]
            for c in report.budget_checks
        ]
        parts.append(table(["Limit", "Allowed", "Measured", "Met"], rows))
    return "\n\n".join(parts)


def _devices(together: SideBySide) -> str:
    """One row a device; what spans columns stands in the first of them."""
    rows = []
    for row in together.rows:
        cells = [f"**{escape(row.name, in_cell=True)}** {row.status}"]
        for cell in row.cells:
            detail = f" ({escape(cell.detail, in_cell=True)})" if cell.detail else ""
            cells += [escape(cell.value, in_cell=True) + detail, *[NOTHING] * (cell.span - 1)]
        rows.append(cells)
    lines = [f"- **{escape(row.name)}**: {escape(row.hardware)}" for row in together.rows if row.hardware]
    parts = [
        "## Devices",
        table(["Device", *together.header], rows),
        "\n".join(lines),
        " ".join(together.legend),
    ]
    return "\n\n".join(part for part in parts if part)


def _device(report: Report, device: Device) -> str:
    parts = [f"## Speed on {escape(device.name)}"]
    if device.hardware:
        parts.append(
            escape(device.hardware) + (f", {device.threads} threads" if device.threads else "") + "."
        )
    if device.status != "measured":
        parts.append(f"This target was {device.status}, not measured: latency is {wording.NOT_MEASURED}.")
    shown, rows = content.columns(device), content.latency_rows(device)
    if rows:
        header = ["p50 / p90 / p99", *(c.label for c in shown), "vs PyTorch", "vs onnxruntime"]
        cells = [
            [
                escape(r.label),
                *(wording.percentiles(r.latency[c.key]) for c in shown),
                f"**{r.vs_torch}**",
                r.vs_onnxruntime,
            ]
            for r in rows
        ]
        parts.append(table(header, cells))
    if shown:
        facts = [content.measurement_facts(report, c) for c in shown]
        cells = [[facts[0][i].name, *(f[i].value for f in facts)] for i in range(len(facts[0]))]
        parts.append(table(["", *(c.label for c in shown)], cells))
    bounded = bound_rows(device)
    if bounded:
        cells = [[escape(cell, in_cell=True) for cell in row.cells] for row in bounded]
        parts += ["### What bounds it", escape(roof_sentence(device)), table(HEADER, cells)]
    on_gpu = gpu_facts(device)
    if on_gpu:
        parts.append(
            table(
                ["GPU", ""],
                [[escape(f.name, in_cell=True), escape(f.value, in_cell=True)] for f in on_gpu],
                numbers_from=2,
            )
        )
    if device.bundle:
        parts.append(f"Bundle: {escape(device.bundle.path)} ({escape(device.bundle.precision)}).")
    parts += [escape(note) for note in device.notes]
    if device.loadgen:
        runs = (("Single-stream", device.loadgen.single_stream), ("Offline", device.loadgen.offline))
        cells = [
            [
                name,
                wording.percentiles(run.latency_ms),
                wording.NOT_MEASURED if run.samples_per_s is None else f"{run.samples_per_s:,.0f}",
                wording.load_check(run, device.loadgen),
            ]
            for name, run in runs
            if run is not None
        ]
        parts.append(f"### {wording.load_title(device.loadgen)}")
        if device.loadgen.driver == "own loop":
            parts.append(wording.load_driver(device.loadgen))
        parts.append(
            table(["Scenario", "p50 / p90 / p99", "Samples per second", "LoadGen's own check"], cells)
        )
    return "\n\n".join(parts)


def _steps(report: Report) -> str:
    if not report.steps:
        return ""
    rows = [
        [
            escape(s.name),
            wording.megabytes(s.file_mb),
            wording.milliseconds(s.latency_ms),
            wording.percent(s.metric),
            wording.parameters(s.parameters),
            wording.duration(s.seconds),
        ]
        for s in report.steps
    ]
    header = [
        "Step",
        "Size",
        "p50, real inputs",
        f"Validation {wording.metric_label(report)}",
        "Parameters",
        "Took",
    ]
    return "## What each step bought\n\n" + table(header, rows)


def _search(report: Report) -> str:
    left = content.candidates_not_taken(report)
    parts = []
    if report.pareto:
        rows = [
            [
                f"**{escape(p.name)}**" if p.chosen else escape(p.name),
                wording.percent(p.metric),
                wording.megabytes(p.file_mb),
                wording.milliseconds(p.latency_ms),
                "chosen" if p.chosen else "teacher" if p.role == "teacher" else "yes" if p.on_front else "",
            ]
            for p in report.pareto
        ]
        header = [
            "Model",
            f"Validation {wording.metric_label(report)}",
            "Size",
            "p50, real inputs",
            "On the front",
        ]
        parts.append(table(header, rows))
    if left:
        rows = [[escape(c.name), escape(c.stage), escape(c.reason)] for c in left]
        parts += ["### Tried and not taken", table(["Candidate", "Stage", "Why not"], rows, numbers_from=3)]
    return "\n\n".join(["## What the search saw", *parts]) if parts else ""


def _quality(report: Report) -> str:
    parts = ["## Quality", content.evaluation_sentence(report)]
    device = content.primary_device(report)
    result = device.result if device else None
    if result is not None:
        flips = wording.NOT_MEASURED if result.flips is None else f"{result.flips:,}"
        parts.append(
            f"Drop: **{wording.points_in_words(result.drop)}** "
            f"(95% interval {wording.interval(result.drop_ci95, as_points=True)}). "
            f"Flips against the teacher: {flips}."
        )
    named = [
        ("TF-IDF + logistic regression", report.references.tfidf_logistic_regression),
        ("Same student, labels only", report.references.student_without_teacher),
    ]
    rows = [
        [name, wording.percent(r.metric if r else None), wording.interval(r.metric_ci95 if r else None)]
        for name, r in named
    ]
    parts.append(
        table(["To compare with", wording.capitalised(wording.metric_label(report)), "95% interval"], rows)
    )
    if report.per_class:
        cells = [
            [
                escape(c.label),
                f"{c.support:,}",
                *(wording.percent(v) for v in (c.precision, c.recall, c.f1, c.teacher_f1)),
            ]
            for c in report.per_class
        ]
        parts.append(table(["Class", "Rows", "Precision", "Recall", "F1", "Teacher's F1"], cells))
    return "\n\n".join(parts)


def _flips(report: Report) -> str:
    if not report.flipped_examples:
        return ""
    rows = [
        [
            escape(e.text),
            "not known" if e.label is None else escape(e.label),
            escape(e.teacher),
            escape(e.result),
            content.flip_kind(e.teacher, e.result, e.label),
        ]
        for e in report.flipped_examples
    ]
    return "### Where it answers differently\n\n" + table(
        ["Text", "True label", "Teacher", "Result", "Effect"], rows, numbers_from=5
    )


def _data(report: Report) -> str:
    if report.data_audit is None:
        return ""
    rows = [[escape(f.name), escape(f.value)] for f in content.audit_facts(report)]
    notes = "".join(f"\n\n{escape(note)}" for note in report.data_audit.notes)
    counts = [[escape(label), f"{count:,}"] for label, count in content.class_counts(report).items()]
    classes = "\n\n" + table(["Class", "Training rows"], counts) if counts else ""
    return "## Data\n\n" + table(["", "Count"], rows) + notes + classes


def _origin(report: Report) -> str:
    teacher = report.lineage.teacher
    rows = [["Teacher", escape(teacher.name)], ["Licence", escape(teacher.license or "not known")]]
    rows += [[f"Data, {f.split}", f"{escape(f.name)} `{escape(f.sha256[:12])}`"] for f in report.lineage.data]
    rows += [[escape(f.name), escape(f.value)] for f in content.environment_facts(report)]
    stages = [
        [escape(s.name), f"`{escape(s.key[:12])}`", wording.duration(s.seconds), "yes" if s.reused else ""]
        for s in report.lineage.stages
    ]
    lineage = "\n\n" + table(["Stage", "Key", "Took", "Reused"], stages) if stages else ""
    return "## Lineage and environment\n\n" + table(["", ""], rows, numbers_from=2) + lineage
