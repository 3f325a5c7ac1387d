"""The limits of a budget, applied to what was measured of a model before the test split is read."""

from __future__ import annotations

from collections.abc import Mapping

from pocketformer.pipeline.recipe import BudgetSection

_ROUNDING = 1e-9  # 0.934 - 0.924 is a little more than 0.01 in binary


def broken_limits(
    budget: BudgetSection, *, drop: float | None, latency_ms: Mapping[str, float], size_mb: float
) -> tuple[str, ...]:
    """Which limits are broken, each in words with both numbers; what was not measured breaks none.

    ``drop`` is of the validation metric, a fraction of 1; ``latency_ms`` p50 by workload; ``size_mb`` all model files.
    Peak memory is measured at the end alone.
    """
    found = []
    if budget.max_drop is not None and drop is not None and drop > budget.max_drop + _ROUNDING:
        found.append(f"drops {drop * 100:.1f} points on validation, {budget.max_drop * 100:.1f} are allowed")
    latency = latency_ms.get(budget.latency_workload)
    if budget.max_latency_ms is not None and latency is not None and latency > budget.max_latency_ms:
        where = "" if budget.latency_workload == "real" else f" on {budget.latency_workload}"
        found.append(f"takes {latency:.2f} ms{where}, {budget.max_latency_ms:g} are allowed")
    if budget.max_size_mb is not None and size_mb > budget.max_size_mb:
        found.append(f"weighs {size_mb:.1f} MB with its tokenizer, {budget.max_size_mb:g} are allowed")
    return tuple(found)
