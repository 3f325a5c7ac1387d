"""The rows about ``compress --search``, which makes a chain of models for a budget."""

from __future__ import annotations

from evidence.search import SearchRuns, drop_on_test, stage_of
from evidence.table import Measured, Row


def minutes(runs: SearchRuns) -> Measured:
    """How long the whole command took: the search, then export, quantization, bundle and measuring."""
    run = runs.search()
    searched = stage_of(run, "search")
    how = (
        f"exit code {run.details['exit_code']}; the search alone made {searched['metrics']['trials']:.0f} models in "
        f"{searched['seconds'] / 60:.1f} minutes"
    )
    return Measured(value=run.details["seconds"] / 60, how=how)


def drop(runs: SearchRuns) -> Measured:
    """How much accuracy the bundle that it found loses on test."""
    return drop_on_test(runs.search())


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
