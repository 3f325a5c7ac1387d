"""The model card of what ships: Markdown with the YAML header that model hubs read."""

from __future__ import annotations

import yaml

from pocketformer.report import content, wording
from pocketformer.report.markdown import escape, table
from pocketformer.report.schema import Device, Report

_PIPELINE_TAGS = {"text-classification"}


def render_model_card(report: Report) -> str:
    """The card of the primary device's bundle, under the licence of the model it came from."""
    teacher = report.lineage.teacher
    device = content.primary_device(report)
    licence = teacher.license
    sections = [
        _header(report),
        f"# {escape(report.name)}",
        f"A smaller, faster model made from {escape(teacher.name)} by Pocketformer "
        f"{escape(report.pocketformer_version)}, packed for onnxruntime.",
        _use(device),
        _results(report, device),
        _limits(report),
        _data(report),
        "## Licence\n\n"
        + (
            f"The weights derive from {escape(teacher.name)} and stay under its licence, "
            f"**{escape(licence)}**."
            if licence
            else f"The licence of {escape(teacher.name)}, from which these weights derive, is **not known**. "
            "Find it out before you distribute them."
        ),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(report: Report) -> str:
    task = [report.task] if report.task in _PIPELINE_TAGS else []
    fields: dict[str, object] = {
        "license": (report.lineage.teacher.license or "unknown").lower(),
        "base_model": wording.one_line(report.lineage.teacher.name),
        "library_name": "onnxruntime",
        "tags": ["pocketformer", "onnx", "compressed"],
    }
    if task:
        fields["pipeline_tag"] = task[0]
    return "---\n" + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).rstrip() + "\n---"


def _use(device: Device | None) -> str:
    path = device.bundle.path if device and device.bundle else "path/to/bundle"
    return (
        "## Use\n\n```python\nfrom pocketformer import load\n\n"
        f"model = load({wording.one_line(path)!r})\n"
        'print(model.predict(["your text"]))\n```\n\nThe base install (`pip install pocketformer`) '
        "is enough: no torch, no transformers."
    )


def _results(report: Report, device: Device | None) -> str:
    if device is None or device.result is None:
        return f"## Results\n\n{wording.capitalised(wording.NOT_MEASURED)}."
    shown = content.columns(device)
    facts = [content.measurement_facts(report, c) for c in shown]
    rows = [[facts[0][i].name, *(f[i].value for f in facts)] for i in range(len(facts[0]))]
    for row in content.latency_rows(device):
        cells = []
        for column in shown:
            timed = row.latency[column.key]
            cells.append(wording.milliseconds(timed.p50 if timed else None))
        rows.append([f"p50, {escape(row.label)}", *cells])
    result = device.result
    return "\n\n".join(
        [
            "## Results",
            f"{content.evaluation_sentence(report)} Latency on {escape(device.hardware or device.name)}.",
            table(["", *(c.label for c in shown)], rows),
            f"Drop against the teacher: {wording.points_in_words(result.drop)} "
            f"(95% interval {wording.interval(result.drop_ci95, as_points=True)}).",
        ]
    )


def _limits(report: Report) -> str:
    lines = [f"- {escape(w.message)}" for w in report.warnings]
    weakest = min(report.per_class, key=lambda row: row.f1, default=None)
    if weakest is not None:
        lines.append(
            f"- Its weakest class is {escape(weakest.label)}, with an F1 of {wording.percent(weakest.f1)}."
        )
    lines.append("- It inherits the biases of its teacher and of the data, which were not examined.")
    lines.append("- Speed on other hardware was not measured.")
    return "## Limits\n\n" + "\n".join(lines)


def _data(report: Report) -> str:
    audit = report.data_audit
    if audit is None:
        return ""
    used = ", ".join(f"{rows:,} for {split}" for split, rows in audit.rows.items())
    classes = ", ".join(escape(name) for name in content.class_names(report))
    return "## Data\n\n" + (f"Rows: {used}. " if used else "") + (f"Classes: {classes}." if classes else "")
