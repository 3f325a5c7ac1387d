"""LoadGen's scenarios over real inputs, here and on devices: driven by MLPerf's LoadGen, or by our own loop without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from pocketformer.targets.loadgen import Scenario, run_scenario
from pocketformer.targets.workloads import REAL, Feeds, build_feeds, padded_feeds

_FIGURES = ("latency_ms", "samples_per_s", "queries", "valid")


def drive_scenarios(
    call: Callable[[Feeds], object],
    token_ids: Sequence[Sequence[int]],
    pad_id: int,
    *,
    min_duration_s: float,
    batch_size: int = 32,
    folder: Optional[Path] = None,
) -> dict[str, Any]:
    """Single-stream and offline, in the words of report.json: see ``LoadGen`` of the schema, and ``run_scenario``.

    ``token_ids`` are those of real texts, ``call`` takes their feeds; a batch is padded to its longest row.
    """
    rows = [row for row in token_ids if len(row) > 0]
    feeds = build_feeds(REAL, rows)

    def predict(indices: list[int]) -> None:
        if len(indices) == 1:
            call(feeds[indices[0]])
        else:
            call(padded_feeds([rows[index] for index in indices], pad_id))

    out: dict[str, Any] = {"subject": "result"}
    scenarios: tuple[Scenario, ...] = ("single_stream", "offline")
    for scenario in scenarios:
        figures = run_scenario(
            predict,
            len(feeds),
            scenario,
            min_duration_s=min_duration_s,
            batch_size=batch_size,
            folder=folder,
        )
        out.update({name: figures[name] for name in ("driver", "version")})
        out[scenario] = {name: figures[name] for name in _FIGURES}
    return out
