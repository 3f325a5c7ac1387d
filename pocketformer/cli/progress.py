"""Progress of a run on stderr: one line a finished stage, a bar with the time left for the one at work."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from pocketformer.compress.context import Progress as StepProgress
    from pocketformer.pipeline.search.trials import Trial

_SECONDS_BETWEEN_LINES = 30.0
_SHOWN = ("parameters", "file_mb", "drop", "max_abs_difference")


class TerminalListener:
    """Draws a run as it goes on. Use as a context manager."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        # A bar that moves, and above it the models that a search has made so far.
        self._live = Live(self._progress, console=self.console, transient=True)
        self._task: Any = None
        self._title = ""
        self._told = 0.0

    def __enter__(self) -> TerminalListener:
        # A bar is for a terminal; into a file or a pipe goes a line now and then.
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def run_started(self, stages: list[str]) -> None:
        """Say what is to come."""
        self.console.print(f"[dim]{len(stages)} stages: {' > '.join(stages)}[/dim]", soft_wrap=True)

    def stage_started(self, name: str, index: int, total: int) -> None:
        """Begin a bar."""
        self._told = time.monotonic()
        self._title = f"[{index}/{total}] {name}"
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(escape(self._title), total=None, figures="")

    def stage_progress(self, progress: StepProgress) -> None:
        """Move the bar."""
        figures = "  ".join(f"{name} {value:.3f}" for name, value in progress.figures.items())
        self._progress.update(self._task, completed=progress.step, total=progress.total, figures=figures)
        if not self.console.is_terminal and time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            done = f"{progress.step} of {progress.total}"
            self.console.print(f"{escape(self._title):<20} {done:>7}   {figures}", soft_wrap=True)

    def stage_finished(self, name: str, record: Mapping[str, Any], *, reused: bool) -> None:
        """Leave one line that stays."""
        if name == "search":
            self._live.update(self._progress)
        spent = "reused" if reused else f"{record['seconds']:.0f} s"
        figures = _figures(record["metrics"])
        self.console.print(f"{escape(self._title):<20} {spent:>7}   {figures}", soft_wrap=True)
        for note in record["notes"]:
            self.console.print(f"{'':<20} {'':>7}   [dim]{escape(note)}[/dim]", soft_wrap=True)

    def trials(self, trials: Sequence[Trial], best: Trial) -> None:
        """Show the models made so far; without a terminal say what the newest is worth."""
        from pocketformer.pipeline.search.stage import describe

        if self.console.is_terminal:
            self._live.update(Group(trial_table(trials, best), self._progress))
        else:
            taken = " (best so far)" if trials[-1] is best else ""
            self.console.print(f"{'':<20} {'':>7}   {escape(describe(trials[-1]))}{taken}", soft_wrap=True)

    def note(self, text: str) -> None:
        """A remark between stages."""
        self.console.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)


def trial_table(trials: Sequence[Trial], best: Trial) -> Table:
    """The models of a search: speed over the teacher in onnxruntime, size, drop; ``*`` marks the Pareto front."""
    from pocketformer.pipeline.search.trials import on_front

    table = Table(title="Models so far", title_justify="left", box=None, header_style="dim")
    workloads = list(trials[0].speedup)
    for name in ("", "model", *workloads, "size", "drop", ""):
        table.add_column(name, justify="left" if name in ("", "model") else "right")
    for trial, front in zip(trials, on_front(trials), strict=True):
        chosen = trial.number == best.number
        table.add_row(
            "*" if front else "",
            trial.name,
            *(f"{trial.speedup[name]:.1f}x" for name in workloads),
            f"{trial.file_mb:.1f} MB",
            f"{trial.drop * 100:.1f} points",
            "best so far" if chosen else "",
            style="bold" if chosen else "" if front else "dim",
        )
    return table


def _figures(metrics: Mapping[str, float]) -> str:
    parts: list[str] = []
    for name, value in metrics.items():
        if name.startswith("validation_"):
            parts.insert(0, f"{name.replace('_', ' ', 1)} {value:.1%}")
        elif name == "parameters":
            parts.append(f"{value / 1e6:.1f}M parameters")
        elif name == "file_mb":
            parts.append(f"{value:.1f} MB")
        elif name in _SHOWN:
            parts.append(f"{name.replace('_', ' ')} {value:.2g}")
    return ", ".join(parts)
