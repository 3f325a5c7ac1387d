"""A row of the table, how it is judged, and how the results are written and shown."""

from __future__ import annotations

import json
import math
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.table import Column, Table

Subject = TypeVar("Subject")

COMPARATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
}


class EvidenceError(Exception):
    """A row could not be measured; the message says why and where to look."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A figure, and in a sentence how it came about."""

    value: float
    how: str


@dataclass(frozen=True, kw_only=True)
class Row(Generic[Subject]):
    """One claim: ``measure(subject) comparator required``, in ``unit``."""

    id: str
    what: str
    comparator: str
    required: float
    unit: str
    measure: Callable[[Subject], Measured]

    def __post_init__(self) -> None:
        if self.comparator not in COMPARATORS:
            raise ValueError(f"row {self.id}: there is no comparator {self.comparator!r}")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A row after measuring. ``measured`` is None when that failed; ``how`` then says why."""

    id: str
    what: str
    comparator: str
    required: float
    measured: float | None
    unit: str
    met: bool
    how: str

    def to_dict(self) -> dict[str, Any]:
        """As the result file has a row."""
        return dict(self.__dict__)


def holds(measured: float, comparator: str, required: float) -> bool:
    """Whether a figure is what is required; one that is no number never is."""
    return math.isfinite(measured) and COMPARATORS[comparator](measured, required)


def judge(row: Row[Subject], subject: Subject) -> Outcome:
    """Measure one row. Whatever goes wrong in it makes this row not met and leaves the others alone."""
    measured: float | None = None
    met = False
    try:
        figure = row.measure(subject)
        how = figure.how
        met = holds(figure.value, row.comparator, row.required)
        # Judged unrounded, and written unrounded: a figure just above its limit must not look like the limit.
        measured = figure.value if math.isfinite(figure.value) else None
        if measured is None:
            how = f"could not be measured: the figure is {figure.value}. {how}"
    except EvidenceError as error:
        how = f"could not be measured: {error}"
    except Exception as error:  # noqa: BLE001 - the table goes on, the row shows what happened
        how = f"could not be measured: {type(error).__name__}: {error}"
    return Outcome(
        id=row.id,
        what=row.what,
        comparator=row.comparator,
        required=row.required,
        measured=measured,
        unit=row.unit,
        met=met,
        how=how,
    )


def select(rows: Sequence[Row[Subject]], wanted: str | None) -> list[Row[Subject]]:
    """The rows named in ``id,id``, in the table's order; all without names. ``ValueError`` for an unknown id."""
    if not wanted:
        return list(rows)
    names = {name.strip() for name in wanted.split(",") if name.strip()}
    unknown = sorted(names - {row.id for row in rows})
    if unknown or not names:
        known = ", ".join(row.id for row in rows)
        raise ValueError(f"there is no row {', '.join(unknown) or repr(wanted)}; rows: {known}")
    return [row for row in rows if row.id in names]


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 when every row is met, else 1; also 1 when there is none."""
    return 0 if outcomes and all(outcome.met for outcome in outcomes) else 1


def document(
    outcomes: Sequence[Outcome], *, environment: Mapping[str, Any], commit: str, dirty: bool, code: str
) -> dict[str, Any]:
    """What the result file holds; ``code`` is the key under which the runs behind it are kept."""
    return {
        "environment": dict(environment),
        "commit": commit,
        "dirty": dirty,
        "code": code,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": [outcome.to_dict() for outcome in outcomes],
    }


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Write it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def show(outcomes: Sequence[Outcome], console: Console, *, seconds: float) -> None:
    """The table with its measured column, then what was not met and why, then the total time."""
    table = Table(Column("Row", no_wrap=True), "What", "Required", "Measured", "Unit", "Met")
    for outcome in outcomes:
        measured = "not measured" if outcome.measured is None else number(outcome.measured)
        met = "[green]yes[/green]" if outcome.met else "[bold red]NO[/bold red]"
        required = f"{outcome.comparator} {number(outcome.required)}"
        table.add_row(outcome.id, outcome.what, required, measured, outcome.unit, met)
    console.print(table)
    for outcome in outcomes:
        if not outcome.met:
            console.print(f"{outcome.id}: {outcome.how}", style="red", markup=False)
    met_count = sum(outcome.met for outcome in outcomes)
    console.print(f"{met_count} of {len(outcomes)} rows met, in {seconds / 60:.1f} minutes.")


def number(value: float) -> str:
    """Four significant digits, without an exponent and without zeros at the end."""
    if value == int(value):
        return str(int(value))
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    shown = f"{value:.{digits}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown
