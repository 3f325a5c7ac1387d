"""``make evidence-search``: measure what the project claims for its search, and fail when a claim does not hold.

    python benchmarks/evidence_search.py [--rows id,id] [--fresh]

Prints the table with its measured column, writes ``benchmarks/results/search.json`` with the rows that ran, and ends
with 1 when a row is not met or could not be measured (2: unknown row). What takes long is kept in
``out/evidence-search/KEY`` and taken again only while ``KEY`` stays the same: a hash of the code (``SEARCH_CODE``) as
it lies in the working tree, of the installed versions and of the machine. No result file of an earlier call is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from evidence import search_fast, search_peers
from evidence.command import ROOT, Evidence, Say, run_as_program, run_table
from evidence.devices import installed_versions
from evidence.search import CORES, SEARCH_CODE, SearchRuns
from evidence.table import Row
from evidence.workspace import Repository

# A module of rows, each measured from a SearchRuns, adds its own here.
ROWS: tuple[Row[SearchRuns], ...] = (*search_fast.ROWS, *search_peers.ROWS)


def search_runs(say: Say) -> SearchRuns:
    versions = tuple(f"{name}=={version}" for name, version in installed_versions().items())
    return SearchRuns(Repository(root=ROOT, code=SEARCH_CODE, versions=versions), say=say)


TABLE = Evidence(
    name="evidence_search",
    description=(__doc__ or "").split("\n", 1)[0],
    file="search.json",
    rows=ROWS,
    kept=search_runs,
    cores=CORES,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table; the exit code."""
    return run_table(TABLE, argv)


if __name__ == "__main__":
    run_as_program(main)
