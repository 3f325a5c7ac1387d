"""``make evidence-demo``: measure what the project claims for the demo, and fail when a claim does not hold.

    python benchmarks/evidence_demo.py [--rows id,id] [--fresh]

Prints the table with its measured column, writes ``benchmarks/results/demo.json`` with the rows that ran, and
ends with 1 when a row is not met or could not be measured (2: unknown row). The whole takes most of an hour on
two cores. Runs that take long are kept in ``out/evidence/KEY`` and taken again only while ``KEY`` stays the same:
a hash of ``pocketformer/``, ``pyproject.toml`` and the ``Makefile`` as they lie in the working tree, and of the
machine. No result file of an earlier call is ever read.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from evidence.rows import CORES, ROWS, cores_note
from evidence.runs import Runs, environment_of
from evidence.table import Outcome, Row, document, exit_code, judge, number, select, show, write_document
from evidence.workspace import RESULTS, Repository, limit_cores
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
_WIDTH = 120


def main(
    argv: Sequence[str] | None = None, *, runs: Runs | None = None, rows: Sequence[Row[Runs]] = ROWS
) -> int:
    """Run the table; the exit code. ``runs`` and ``rows`` stand in for the real ones in tests."""
    start = perf_counter()
    parser = argparse.ArgumentParser(prog="evidence_demo", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", metavar="ID,ID", help=f"only these rows of {', '.join(r.id for r in rows)}")
    parser.add_argument("--fresh", action="store_true", help="delete the runs kept for this code first")
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    parser.add_argument("--output", type=Path, default=ROOT / RESULTS / "demo.json", help="file to write")
    options = parser.parse_args(argv)
    try:
        chosen = select(rows, options.rows)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        for row in chosen:
            print(f"{row.id:20} {row.comparator:>2} {number(row.required)} {row.unit:9} {row.what}")
        return 0
    limit_cores(CORES)
    progress = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        progress.print(text, markup=False)

    if cores_note():
        say(cores_note())
    runs = runs or Runs(Repository(root=ROOT), say=say)
    if options.fresh:
        shutil.rmtree(runs.folder, ignore_errors=True)
    repository = runs.repository
    # Asked before measuring: this is the state that the figures belong to.
    commit, dirty, code = repository.commit(), repository.dirty(), repository.code_key()
    outcomes: list[Outcome] = []
    for row in chosen:
        outcome = judge(row, runs)
        outcomes.append(outcome)
        measured = (
            "not measured" if outcome.measured is None else f"{number(outcome.measured)} {outcome.unit}"
        )
        say(f"{row.id}: {measured}, {'met' if outcome.met else 'NOT MET'}")
    environment = environment_of(runs)
    content = document(outcomes, environment=environment, commit=commit, dirty=dirty, code=code)
    write_document(options.output, content)
    # Without a terminal rich takes 80 columns, which wraps every row.
    width = None if sys.stdout.isatty() else _WIDTH
    show(outcomes, Console(highlight=False, width=width), seconds=perf_counter() - start)
    print(f"Commit {commit[:10]}{' (dirty)' if dirty else ''}, code {code}. Written: {options.output}")
    if runs.others():
        print(f"{len(runs.others())} folders of other code in {runs.folder.parent} may be deleted.")
    if repository.code_key() != code:
        print("The code changed while it was measured: run this again.", file=sys.stderr)
        return 1
    return exit_code(outcomes)


if __name__ == "__main__":
    # A plain SIGTERM would leave a run behind that nobody waits for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
