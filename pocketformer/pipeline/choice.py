"""Which of the measured candidates ships, and why the others do not: rules over figures, nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pocketformer.pipeline.limits import broken_limits
from pocketformer.pipeline.recipe import BudgetSection
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.manifest import ONNXRUNTIME

# Candidates within this many times the fastest one's time are worth timing again.
_FINALISTS_WITHIN = 1.25
# What counts as a little accuracy where the budget does not limit the drop.
_USUAL_DROP = 0.01


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One candidate: its file (None when it could not be made), what was measured, and why it was or was not taken.

    ``divergence`` of its answers on validation from the teacher's, in nats. ``engine`` is what runs it; ``local``: why
    its answers hold on processors like this one only, or empty. ``float_products``: names of those of its ``products``
    that stay in float32, for one of mixed precision.
    """

    name: str
    precision: str
    engine: str = ONNXRUNTIME
    path: Path | None = None
    reason: str = ""
    local: str = ""
    metric: float | None = None
    divergence: float | None = None
    file_mb: float = 0.0
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    float_products: tuple[str, ...] = ()
    products: int = 0

    @property
    def kept_float(self) -> str:
        """Which products stay in float32, in words; empty for one of a single precision."""
        if not self.float_products:
            return ""
        of = f" of {self.products}" if self.products else ""
        return f"{len(self.float_products)}{of} products stay in float32: {', '.join(self.float_products)}"

    @property
    def speed(self) -> float:
        """Geometric mean of the medians over the workloads, in ms: no workload may be bought with another."""
        return geometric_mean(self.latency_ms) if self.latency_ms else float("inf")

    def to_dict(self, *, taken: bool) -> dict[str, Any]:
        """As report.json has a candidate."""
        return {
            "name": self.name,
            "stage": "quantize",
            "taken": taken,
            "reason": self.reason,
            "metric": self.metric,
            "file_mb": self.file_mb or None,
            "latency_ms": dict(self.latency_ms),
        }


def geometric_mean(latency_ms: Mapping[str, float]) -> float:
    """One figure for all workloads, in ms, in which each counts by its ratio and none by its length."""
    return float(np.exp(np.mean(np.log(list(latency_ms.values())))))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The rules of one run.

    ``teacher_metric``: the teacher's validation score, None without labels; ``tokenizer_mb``: 10^6 bytes that ship
    beside every candidate's file; ``close`` and ``close_drop`` as in ``QuantizeConfig``.
    """

    budget: BudgetSection
    teacher_metric: float | None
    tokenizer_mb: float
    close: float
    close_drop: float

    def excess(self, candidate: Tried) -> str:
        """Which limit of the budget a candidate breaks on validation, or nothing."""
        known = candidate.metric is not None and self.teacher_metric is not None
        broken = broken_limits(
            self.budget,
            drop=(self.teacher_metric or 0.0) - (candidate.metric or 0.0) if known else None,
            latency_ms=candidate.latency_ms,
            size_mb=candidate.file_mb + self.tokenizer_mb,
        )
        return broken[0] if broken else ""

    def finalists(self, tried: Sequence[Tried]) -> list[Tried]:
        """Those within the budget that are so nearly the fastest that only longer timing tells them apart."""
        fitting = self._fitting(tried)
        fastest = min((c.speed for c in fitting), default=0.0)
        return [c for c in fitting if c.speed <= fastest * _FINALISTS_WITHIN]

    def choose(self, tried: Sequence[Tried]) -> Tried:
        """The fastest that keeps the budget on validation; among equally fast and accurate ones the smallest.

        An int8 one whose answers hold on this processor only is not taken while another int8 one keeps the budget.
        When none keeps it, the one that drops least. The reasons are written by ``explain``.
        """
        usable = [candidate for candidate in tried if candidate.path is not None]
        if not usable:
            raise InputError("no candidate could be made", hint="See log.txt in the run directory.")
        fitting = self._fitting(usable)
        if not fitting:
            return max(usable, key=lambda c: (c.metric if c.metric is not None else 0.0, -c.speed))
        fastest = min(candidate.speed for candidate in fitting)
        close = [c for c in fitting if c.speed <= fastest * (1 + self.close)]
        best = max(c.metric or 0.0 for c in close)
        spare = self.close_drop * (_USUAL_DROP if self.budget.max_drop is None else self.budget.max_drop)
        accurate = [c for c in close if (c.metric or 0.0) >= best - spare - 1e-9]
        return min(accurate, key=lambda c: (c.file_mb, c.speed))

    def explain(self, tried: Sequence[Tried], chosen: Tried) -> list[Tried]:
        """The candidates with the reason why each was or was not taken."""
        fitting = self._fitting(tried)
        return [
            c
            if c.path is None
            else replace(c, reason=self._explained(c, chosen, stands_back=c not in fitting))
            for c in tried
        ]

    def _fitting(self, tried: Sequence[Tried]) -> list[Tried]:
        """Those within the budget; where int8 is among those that answer alike everywhere, these alone."""
        fitting = [c for c in tried if c.path is not None and not self.excess(c)]
        everywhere = [c for c in fitting if not c.local]
        return everywhere if any(c.precision.startswith("int8") for c in everywhere) else fitting

    def _explained(self, candidate: Tried, chosen: Tried, *, stands_back: bool) -> str:
        reason = self._reason(candidate, chosen, stands_back=stands_back)
        return "; ".join(part for part in (reason, candidate.kept_float) if part)

    def _reason(self, candidate: Tried, chosen: Tried, *, stands_back: bool) -> str:
        excess = self.excess(candidate)
        if candidate.name == chosen.name:
            if excess:
                return f"none kept the budget on validation; this one comes closest ({excess})"
            taken = "within the budget on validation; of the fastest the smallest that is as accurate"
            return f"{taken}; but {candidate.local}" if candidate.local else taken
        if excess:
            return excess
        if stands_back:
            return candidate.local
        if candidate.speed > chosen.speed * (1 + self.close):
            return f"{candidate.speed / chosen.speed:.2f} times the time of what was taken"
        if candidate.file_mb >= chosen.file_mb:
            return f"about as fast as what was taken, and {candidate.file_mb - chosen.file_mb:.1f} MB larger"
        drop = ((chosen.metric or 0) - (candidate.metric or 0)) * 100
        return f"smaller, but {drop:.1f} points below what was taken"


def overflow_note(chosen: Tried, candidates: Sequence[Tried]) -> tuple[str, ...]:
    """A remark when this processor's int8 arithmetic is not that of others, and what came of it."""
    local = [candidate.name for candidate in candidates if candidate.local]
    if not local:
        return ()
    what = "on this processor products of 8-bit weights overflow 16 bits (x86 without VNNI)"
    if chosen.local:
        return (f"{what}, also those of {chosen.name}: its answers will be others on other processors",)
    return (f"{what}: {', '.join(local)} stood back for candidates that answer alike everywhere",)
