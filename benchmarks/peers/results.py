"""From samples and logits to the rows of the result file: metric, drop, percentiles, ratios, the best peer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peers.grid import Entry, Grid
from peers.setups import OURS, REFERENCE
from peers.subjects import MODEL
from peers.turns import CALLS_A_TURN, Samples
from pocketformer.runtime.metrics import paired_drop, score
from pocketformer.runtime.results import LatencySummary

# A peer that answers worse than this is no comparison; our own bundle is held to the same.
MAX_DROP = 0.01
Row = dict[str, Any]


def rows_of(grid: Grid, samples: Samples) -> list[Row]:
    """One row for each setup and workload of a data set, with ratios."""
    reference = grid.entries[REFERENCE]
    rows: list[Row] = []
    for entry in grid.entries.values():
        scored = _scored(entry, reference, grid)
        for workload in CALLS_A_TURN:
            seconds = samples.seconds.get(entry.setup.name, {}).get(workload, [])
            error = entry.error or samples.errors.get(entry.setup.name)
            if error is None and not seconds:
                error = "not timed"
            latency = LatencySummary.from_seconds(seconds) if seconds and error is None else None
            rows.append(
                {
                    "setup": entry.setup.name,
                    "model": MODEL,
                    "data": grid.subject.data,
                    "workload": workload,
                    "p50_ms": None if latency is None else latency.p50,
                    "p90_ms": None if latency is None else latency.p90,
                    "calls": len(seconds),
                    **scored,
                    "file_mb": None if entry.artefact is None else entry.artefact.file_mb,
                    "error": error,
                }
            )
    return with_ratios(rows)


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """The rows with ``faster_than_eager`` and ``faster_than_best_peer``; None where there is nothing to compare."""
    found = []
    for row in rows:
        same = [r for r in rows if (r["data"], r["workload"]) == (row["data"], row["workload"])]
        eager = next((r for r in same if r["setup"] == REFERENCE), None)
        best = best_peer(same)
        found.append(
            {
                **row,
                "faster_than_eager": _ratio(eager, row),
                "faster_than_best_peer": _ratio(best, row),
            }
        )
    return found


def best_peer(rows: Iterable[Row], max_drop: float = MAX_DROP) -> Row | None:
    """The fastest row that is not ours, has no error and answers as well as is asked; None when there is none."""
    able = [row for row in rows if _is_peer(row, max_drop) and row["p50_ms"] is not None]
    return min(able, key=lambda row: float(row["p50_ms"]), default=None)


def smallest_peer(rows: Iterable[Row], max_drop: float = MAX_DROP) -> Row | None:
    """Of the same peers the one with the smallest files."""
    able = [row for row in rows if _is_peer(row, max_drop) and row["file_mb"] is not None]
    return min(able, key=lambda row: float(row["file_mb"]), default=None)


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each data set and workload: the best peer, us, and by how much; for each data set the files."""
    found: list[dict[str, Any]] = []
    for data in dict.fromkeys(row["data"] for row in rows):
        of_data = [row for row in rows if row["data"] == data]
        for workload in dict.fromkeys(row["workload"] for row in of_data):
            same = [row for row in of_data if row["workload"] == workload]
            best, ours = best_peer(same), next((row for row in same if row["setup"] == OURS), None)
            found.append(
                {
                    "data": data,
                    "workload": workload,
                    "best_peer": None if best is None else best["setup"],
                    "best_peer_p50_ms": None if best is None else best["p50_ms"],
                    "pocketformer_p50_ms": None if ours is None else ours["p50_ms"],
                    "faster_than_best_peer": None if ours is None else ours["faster_than_best_peer"],
                    "faster_than_eager": None if ours is None else ours["faster_than_eager"],
                }
            )
        small, ours = smallest_peer(of_data), next((row for row in of_data if row["setup"] == OURS), None)
        if small is not None and ours is not None and ours["file_mb"]:
            found.append(
                {
                    "data": data,
                    "smallest_peer": small["setup"],
                    "smallest_peer_mb": small["file_mb"],
                    "pocketformer_mb": ours["file_mb"],
                    "smaller_than_smallest_peer": small["file_mb"] / ours["file_mb"],
                }
            )
    return found


def setups_of(entries: Mapping[str, Entry], samples: Samples) -> dict[str, Any]:
    """How each setup's model was made and run, for the result file."""
    return {
        name: {
            "title": entry.setup.title,
            "environment": entry.setup.environment,
            "made": {} if entry.artefact is None else dict(entry.artefact.how),
            "versions": {} if entry.artefact is None else dict(entry.artefact.versions),
            "run": samples.settings.get(name, {}),
            "ships": [] if entry.artefact is None else [path.name for path in entry.artefact.ships],
            "core_used_while_others_ran": samples.idle.get(name),
        }
        for name, entry in entries.items()
    }


def _scored(entry: Entry, reference: Entry, grid: Grid) -> dict[str, Any]:
    subject = grid.subject
    if entry.logits is None:
        return {"metric": None, "drop": None, "drop_ci95": None}
    labels, classes = list(subject.test.labels), len(subject.label_names)
    predictions = entry.logits.argmax(-1)
    value = score(subject.metric, labels, predictions, classes)
    if reference.logits is None:
        return {"metric": value, "drop": None, "drop_ci95": None}
    drop, interval = paired_drop(subject.metric, labels, reference.logits.argmax(-1), predictions, classes)
    return {"metric": value, "drop": drop, "drop_ci95": list(interval)}


def _is_peer(row: Row, max_drop: float) -> bool:
    # A drop of exactly one point in a hundred is 0.010000000000000009 in binary.
    return (
        row["setup"] != OURS
        and row["error"] is None
        and row["drop"] is not None
        and row["drop"] <= max_drop + 1e-9
    )


def _ratio(other: Row | None, row: Row) -> float | None:
    if other is None or other["p50_ms"] is None or not row["p50_ms"]:
        return None
    return float(other["p50_ms"]) / float(row["p50_ms"])
