"""``make evidence-demo``: measure what the project claims for the demo, and fail when a claim does not hold.

    python benchmarks/evidence_demo.py [--rows id,id] [--fresh]

Prints the table with its measured column, writes ``benchmarks/results/demo.json`` with the rows that ran, and
ends with 1 when a row is not met or could not be measured (2: unknown row). The whole takes most of an hour on
two cores. Runs that take long are kept in ``out/evidence/KEY`` and taken again only while ``KEY`` stays the same:
a hash of ``pocketformer/``, ``pyproject.toml`` and the ``Makefile`` as they lie in the working tree, and of the
machine. No result file of an earlier call is ever read.
"""

from __future__ import annotations

from collections.abc import Sequence

from evidence.command import ROOT, Evidence, run_as_program, run_table
from evidence.rows import CORES, ROWS
from evidence.runs import Runs
from evidence.table import Row
from evidence.workspace import Repository

TABLE = Evidence(
    name="evidence_demo",
    description=(__doc__ or "").split("\n", 1)[0],
    file="demo.json",
    rows=ROWS,
    kept=lambda say: Runs(Repository(root=ROOT), say=say),
    cores=CORES,
)


def main(
    argv: Sequence[str] | None = None, *, runs: Runs | None = None, rows: Sequence[Row[Runs]] | None = None
) -> int:
    """Run the table; the exit code. ``runs`` and ``rows`` stand in for the real ones in tests."""
    return run_table(TABLE, argv, kept=runs, rows=rows)


if __name__ == "__main__":
    run_as_program(main)
