"""The report in a terminal: the verdict, the numbers that matter, and where the files are."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocketformer.report import content, verdict, wording
from pocketformer.report.gpu_facts import gpu_facts
from pocketformer.report.schema import Device, Report
from pocketformer.report.side_by_side import NOTHING, SideBySide, side_by_side

_FIRST_TO_GO = ("Runs in", "Memory", "Size", "Rows/s")
_FILES = ("report.html", "report.md", "report.json")


def print_report(report: Report, console: Console, *, directory: Path | None = None) -> None:
    """Print a compact summary; ``directory`` is the run directory whose files are named at the end."""
    style = "bold green" if report.budget_met else "bold red"
    mark = "Budget met" if report.budget_met else "Budget not met"
    console.print()
    console.print(
        Text(mark, style=style).append(f"  {_line(content.verdict_sentence(report))}", style="default")
    )
    console.print()
    for headline in content.headlines(report):
        console.print(
            Text("  ")
            .append(f"{headline.value:>8} ", "bold")
            .append(headline.label)
            .append(f"  {headline.detail}", "dim")
        )
    for check in report.budget_checks:
        if check.met is not True:
            limit = f"{verdict.limit_label(check)}: {verdict.amount(check, check.measured)}"
            limit += f" on {_line(check.device)}" if len(report.devices) > 1 else ""
            console.print(Text(f"  {limit}, allowed {verdict.amount(check, check.limit)}", style="red"))
    for line in report.needed:
        console.print(Text(f"  Needed: {_line(line)}"))
    for warning in report.warnings:
        console.print(Text("  Warning: ", style="yellow").append(_line(warning.message), style="default"))
    together = side_by_side(report)
    if together is not None:
        console.print()
        _print_devices(together, console)
    for device in report.devices:
        if device.gpu is not None:
            console.print()
            console.print(_gpu_table(device))
        if together is not None and not device.speedup:
            continue
        console.print()
        console.print(_latency_table(device))
        console.print(_facts_table(report, device))
        if device.loadgen is not None:
            console.print(Text(f"  {wording.load_line(device.loadgen)}", style="dim"))
    if directory is not None:
        _print_files(report, console, directory)


def _print_devices(together: SideBySide, console: Console) -> None:
    rows = []
    for row in together.rows:
        if row.status == "failed":
            continue
        cells = [_line(row.name) + ("" if row.status == "measured" else f" ({row.status})")]
        for cell in row.cells:
            cells += [_line(cell.value), *[NOTHING] * (cell.span - 1)]
        rows.append(dict(zip(("", *together.header), cells, strict=True)))
    if rows:
        console.print(_fitting_table(rows, console.width))
    for row in together.rows:
        if row.status == "failed":
            text = Text(f"  {_line(row.name)} failed: ", style="red")
            console.print(text.append(_line(row.cells[0].value), style="default"))


def _fitting_table(rows: list[dict[str, str]], width: int) -> Table:
    """The devices' table, less the columns that a narrow terminal has no room for: the report has them all."""
    columns = {name: max(map(len, (name, *(row[name] for row in rows)))) for name in rows[0]}
    for name in _FIRST_TO_GO:
        if sum(columns.values()) + 2 * len(columns) > width:
            columns.pop(name, None)
    table = Table(title="Devices", title_justify="left", box=None, pad_edge=True)
    for name in columns:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    return table


def _line(text: str) -> str:
    return wording.one_line(text)


def _latency_table(device: Device) -> Table | Text:
    rows, shown = content.latency_rows(device), content.columns(device)
    if not rows:
        return Text(f"  {_line(device.name)} ({device.status}): latency not measured")
    table = Table(
        title=f"p50 on {_line(device.hardware or device.name)}", title_justify="left", box=None, pad_edge=True
    )
    table.add_column("", no_wrap=True)
    for column in shown:
        table.add_column(column.label.removeprefix("Teacher, "), justify="right")
    table.add_column("vs PyTorch", justify="right", style="bold")
    table.add_column("vs onnxruntime", justify="right")
    for row in rows:
        cells = []
        for column in shown:
            timed = row.latency[column.key]
            cells.append(wording.milliseconds(timed.p50 if timed else None))
        table.add_row(_line(row.label), *cells, row.vs_torch, row.vs_onnxruntime)
    return table


def _facts_table(report: Report, device: Device) -> Table:
    shown = content.columns(device)
    table = Table(box=None, pad_edge=True, show_header=True)
    table.add_column("", no_wrap=True)
    for column in shown:
        table.add_column(column.label.removeprefix("Teacher, "), justify="right")
    facts = [content.measurement_facts(report, column, brief=True) for column in shown]
    for index in range(len(facts[0]) if facts else 0):
        values = [f[index].value for f in facts]
        if any(value != wording.NOT_MEASURED for value in values):
            table.add_row(facts[0][index].name, *values)
    return table


def _gpu_table(device: Device) -> Table:
    table = Table(
        title=f"GPU of {_line(device.name)}", title_justify="left", box=None, pad_edge=True, show_header=False
    )
    table.add_column("", no_wrap=True)
    table.add_column("")
    for fact in gpu_facts(device):
        table.add_row(_line(fact.name), _line(fact.value))
    return table


def _print_files(report: Report, console: Console, directory: Path) -> None:
    files = [directory / name for name in _FILES if (directory / name).exists()]
    files += [directory / d.bundle.path for d in report.devices if d.bundle is not None]
    console.print()
    for file in files:
        # No wrapping: a path that is cut cannot be copied.
        console.print(Text(f"  {_line(str(file))}"), soft_wrap=True)
