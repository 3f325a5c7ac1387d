"""A table as a command: what ``evidence_demo.py`` and ``evidence_devices.py`` have in common.

It prints the table with its measured column, writes ``benchmarks/results/FILE`` with the rows that ran, and ends
with 1 when a row is not met or could not be measured (2: unknown row). No result file of an earlier call is read.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Generic, TypeVar

from rich.console import Console

from evidence.kept import Kept, environment_of
from evidence.table import Outcome, Row, document, exit_code, judge, number, select, show, write_document
from evidence.workspace import RESULTS, limit_cores, usable_cores

ROOT = Path(__file__).resolve().parents[2]
_WIDTH = 120
Subject = TypeVar("Subject", bound=Kept)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Evidence(Generic[Subject]):
    """One table: the command's ``name`` and ``description``, the ``file`` it writes, its rows and what they share.

    ``cores`` is how many the claims are for; None: whatever there is.
    """

    name: str
    description: str
    file: str
    rows: Sequence[Row[Subject]]
    kept: Callable[[Say], Subject]
    cores: int | None = None


def run_table(
    table: Evidence[Subject],
    argv: Sequence[str] | None = None,
    *,
    kept: Subject | None = None,
    rows: Sequence[Row[Subject]] | None = None,
) -> int:
    """Run the table; the exit code. ``kept`` and ``rows`` stand in for the real ones in tests."""
    start = perf_counter()
    rows = table.rows if rows is None else rows
    parser = argparse.ArgumentParser(prog=table.name, description=table.description)
    parser.add_argument("--rows", metavar="ID,ID", help=f"only these rows of {', '.join(r.id for r in rows)}")
    parser.add_argument("--fresh", action="store_true", help="delete what is kept for this code first")
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    parser.add_argument("--output", type=Path, default=ROOT / RESULTS / table.file, help="file to write")
    options = parser.parse_args(argv)
    try:
        chosen = select(rows, options.rows)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        for row in chosen:
            print(f"{row.id:20} {row.comparator:>2} {number(row.required)} {row.unit:9} {row.what}")
        return 0
    progress = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        progress.print(text, markup=False)

    if table.cores is not None:
        limit_cores(table.cores)
        if usable_cores() != table.cores:
            say(f"Usable cores: {usable_cores()}; the table is about {table.cores}.")
    kept = table.kept(say) if kept is None else kept
    if options.fresh:
        shutil.rmtree(kept.folder, ignore_errors=True)
    repository = kept.repository
    # Asked before measuring: this is the state that the figures belong to.
    commit, dirty, code = repository.commit(), repository.dirty(), repository.code_key()
    outcomes: list[Outcome] = []
    for row in chosen:
        outcome = judge(row, kept)
        outcomes.append(outcome)
        measured = (
            "not measured" if outcome.measured is None else f"{number(outcome.measured)} {outcome.unit}"
        )
        say(f"{row.id}: {measured}, {'met' if outcome.met else 'NOT MET'}")
    environment = environment_of(kept)
    content = document(outcomes, environment=environment, commit=commit, dirty=dirty, code=code)
    write_document(options.output, content)
    # Without a terminal rich takes 80 columns, which wraps every row.
    width = None if sys.stdout.isatty() else _WIDTH
    show(outcomes, Console(highlight=False, width=width), seconds=perf_counter() - start)
    print(f"Commit {commit[:10]}{' (dirty)' if dirty else ''}, code {code}. Written: {options.output}")
    if kept.others():
        print(f"{len(kept.others())} folders of other code in {kept.folder.parent} may be deleted.")
    if repository.code_key() != code:
        print("The code changed while it was measured: run this again.", file=sys.stderr)
        return 1
    return exit_code(outcomes)


def run_as_program(main: Callable[[], int]) -> None:
    """Run ``main`` and end this process with its exit code."""
    # A plain SIGTERM would leave a run behind that nobody waits for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
