"""``make evidence-embedding``: measure what the project claims for apps, and fail when a claim does not hold.

    python benchmarks/evidence_embedding.py [--run RUN] [--rows id,id] [--fresh]

Prints the table with its measured column, writes ``benchmarks/results/embedding.json`` with the rows that ran, and ends
with 1 when a row is not met or could not be measured (2: unknown row). What takes long is kept in
``out/evidence-embedding/KEY`` and taken again only while ``KEY`` stays the same. ``--run`` takes the bundle of a
finished run of the demo instead of making one. No result file of an earlier call is read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evidence import embed_c, embed_formats, embed_js, embed_mobile, embed_python, embed_same, embed_trust
from evidence.command import ROOT, Evidence, Say, run_as_program, run_table
from evidence.devices import installed_versions
from evidence.embedding import EmbeddingRuns
from evidence.search import CORES
from evidence.table import Row
from evidence.workspace import DEMO_CODE, Repository

# A module of rows, each measured from an EmbeddingRuns, adds its own here.
ROWS: tuple[Row[EmbeddingRuns], ...] = (
    *embed_same.ROWS,
    *embed_js.ROWS,
    *embed_c.ROWS,
    *embed_mobile.ROWS,
    *embed_python.ROWS,
    *embed_trust.ROWS,
    *embed_formats.ROWS,
)


def embedding_runs(say: Say) -> EmbeddingRuns:
    versions = tuple(f"{name}=={version}" for name, version in installed_versions().items())
    return EmbeddingRuns(Repository(root=ROOT, code=DEMO_CODE, versions=versions), say=say)


TABLE = Evidence(
    name="evidence_embedding",
    description=(__doc__ or "").split("\n", 1)[0],
    file="embedding.json",
    rows=ROWS,
    kept=embedding_runs,
    cores=CORES,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table; the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--run", type=Path)
    options, rest = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    EmbeddingRuns.given = None if options.run is None else options.run.resolve()
    return run_table(TABLE, rest)


if __name__ == "__main__":
    run_as_program(main)
