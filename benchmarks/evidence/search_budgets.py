"""The rows about ``compress --search``, which makes a chain of models for a budget."""

from __future__ import annotations

import json

from evidence.search import CORES, SearchRuns
from evidence.table import EvidenceError, Measured, Row


def minutes(runs: SearchRuns) -> Measured:
    """How long the whole command took: the search, then export, quantization, bundle and measuring."""
    run = runs.search()
    if run.details["cores"] != CORES:
        raise EvidenceError(f"the run had {run.details['cores']} cores, the claim is for {CORES}")
    stages = json.loads((run.output / "run.json").read_text(encoding="utf-8"))["stages"]
    searched = next(stage for stage in stages if stage["name"] == "search")
    how = (
        f"exit code {run.details['exit_code']}; the search alone made {searched['metrics']['trials']:.0f} models in "
        f"{searched['seconds'] / 60:.1f} minutes"
    )
    return Measured(value=run.details["seconds"] / 60, how=how)


def drop(runs: SearchRuns) -> Measured:
    """How much accuracy the bundle that it found loses on test."""
    result = runs.search().device.result
    if result is None or result.drop is None:
        raise EvidenceError("the report has no drop")
    return Measured(value=result.drop, how=f"report.json of the run, {result.file_mb:.1f} MB")


ROWS: tuple[Row[SearchRuns], ...] = (
    Row(
        id="search-minutes",
        what="`--search` to a budget of 1.0 point on 2 cores (aim: 20)",
        comparator="<",
        required=45,
        unit="minutes",
        measure=minutes,
    ),
    Row(
        id="search-drop",
        what="Drop of what it found on test",
        comparator="<=",
        required=0.01,
        unit="fraction",
        measure=drop,
    ),
)
