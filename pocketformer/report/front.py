"""Pareto fronts: which models no other model beats.

A point is dominated when another is at least as good in every direction and better in one. Equal points
stay on the front together.
"""

from __future__ import annotations

from collections.abc import Sequence

from pocketformer.report.schema import ParetoPoint


def non_dominated(costs: Sequence[Sequence[float]]) -> list[bool]:
    """For each row of ``costs`` (smaller is better in every column): is it on the front?"""

    def beats(a: Sequence[float], b: Sequence[float]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)

    return [not any(beats(other, row) for other in costs) for row in costs]


def mark_front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """The same points with ``on_front`` set over metric, size and latency together."""
    flags = non_dominated([(-p.metric, p.file_mb, p.latency_ms) for p in points])
    return [p.model_copy(update={"on_front": f}) for p, f in zip(points, flags, strict=True)]
