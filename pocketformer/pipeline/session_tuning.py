"""Settings of the session that runs the chosen graph: a short list, measured side by side, kept when clearly better.

What helps differs with processor, cores and graph, and mostly the usual settings are best. So the bar is high:
a change has to win by ``MARGIN`` twice, alone among its rivals and then once more against the usual settings, and may
not slow down any workload by as much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pocketformer.pipeline.choice import geometric_mean
from pocketformer.pipeline.recipe import build_config
from pocketformer.runtime.errors import RecipeError
from pocketformer.runtime.manifest import GRAPH_OPTIMIZATIONS, ONNXRUNTIME, SessionSettings

MARGIN = 0.03
_USUAL = "usual settings"
_FIRST, _AGAIN = 0.6, 1.5  # how long the measurements are, as shares of the usual rounds

# Settings by name, and how many times the usual rounds: p50 in ms, by name and workload.
Timing = Callable[[Mapping[str, SessionSettings], float], Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, kw_only=True)
class TriedSettings:
    """One change of the settings: what it was called and is, how fast it was, whether it was taken and why."""

    name: str
    changes: Mapping[str, Any]
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    taken: bool = False
    reason: str = ""

    def to_dict(self, candidate: str) -> dict[str, Any]:
        """As report.json has a candidate."""
        return {
            "name": f"{candidate}, {self.name}",
            "stage": "session",
            "taken": self.taken,
            "reason": self.reason,
            "metric": None,
            "file_mb": None,
            "latency_ms": dict(self.latency_ms),
        }


def alternatives(engine: str, threads: int, *, threads_fixed: bool) -> tuple[TriedSettings, ...]:
    """What is tried beside the usual settings of ``engine`` with ``threads`` threads, which the user may have fixed.

    Fewer threads win where a call is too short to be shared, or where two of them share one core.
    """
    fewer = [] if threads_fixed else sorted({threads // 2, 1} - {0, threads}, reverse=True)
    tried = [
        TriedSettings(name="1 thread" if n == 1 else f"{n} threads", changes={"intra_op_threads": n})
        for n in fewer
    ]
    if engine == ONNXRUNTIME:
        tried += [
            TriedSettings(name="no spinning", changes={"spinning": False}),
            TriedSettings(name="no memory arena", changes={"memory_arena": False}),
            TriedSettings(name="extended graph optimization", changes={"graph_optimization": "extended"}),
            TriedSettings(name="basic graph optimization", changes={"graph_optimization": "basic"}),
        ]
    return tuple(tried)


def tune(
    usual: SessionSettings, rivals: Sequence[TriedSettings], timing: Timing
) -> tuple[dict[str, Any], list[TriedSettings]]:
    """The changes of ``usual`` to keep (none of them: empty), and all that was tried, with reasons.

    Changes that win by ``MARGIN`` are also tried together, in the second measurement.
    """
    if not rivals:
        return {}, []
    first = timing({_USUAL: usual, **{r.name: replace(usual, **r.changes) for r in rivals}}, _FIRST)
    gains = {r.name: gain(first[_USUAL], first[r.name]) for r in rivals}
    tried = {r.name: replace(r, latency_ms=first[r.name], reason=_said(gains[r.name])) for r in rivals}
    winners = sorted((r for r in rivals if gains[r.name] > MARGIN), key=lambda r: gains[r.name])
    if not winners:
        return {}, list(tried.values())
    finalists = {winners[-1].name: winners[-1]}
    # The greater gain is laid over the smaller one where both change the same setting.
    merged = {key: value for winner in winners for key, value in winner.changes.items()}
    if merged != winners[-1].changes:
        together = TriedSettings(name=" and ".join(w.name for w in reversed(winners)), changes=merged)
        finalists[together.name] = together
    second = timing({_USUAL: usual, **{n: replace(usual, **f.changes) for n, f in finalists.items()}}, _AGAIN)
    for name, finalist in finalists.items():
        won = gain(second[_USUAL], second[name])
        gains[name] = won
        tried[name] = replace(
            finalist, latency_ms=second[name], reason=f"{_said(won)} when measured once more"
        )
    best = max(finalists, key=lambda name: gains[name])
    if gains[best] <= MARGIN or slowest(second[_USUAL], second[best]) > 1 + MARGIN:
        return {}, list(tried.values())
    tried[best] = replace(tried[best], taken=True)
    return dict(finalists[best].changes), list(tried.values())


def gain(usual: Mapping[str, float], other: Mapping[str, float]) -> float:
    """By which share of the usual time ``other`` is faster, by the geometric mean over the workloads."""
    return 1.0 - geometric_mean(other) / geometric_mean(usual)


def slowest(usual: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The largest ratio of ``other`` to the usual time, of all workloads."""
    return max(other[name] / usual[name] for name in usual)


def chosen_settings(choices: Mapping[str, Any]) -> dict[str, Any] | None:
    """The changes of the settings that a recipe's ``choices`` hold; None when none were made yet.

    ``RecipeError`` for a setting that does not exist or cannot have its value.
    """
    if "session" not in choices:
        return None
    try:
        settings = build_config(SessionSettings, choices["session"] or {}, where="choices: session")
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if settings.graph_optimization not in GRAPH_OPTIMIZATIONS or settings.intra_op_threads < 0:
        raise RecipeError(
            f"choices: session: {asdict(settings)}",
            hint=f"graph_optimization is one of {', '.join(GRAPH_OPTIMIZATIONS)}, threads at least 0.",
        )
    usual = SessionSettings()
    return {
        f.name: getattr(settings, f.name)
        for f in fields(settings)
        if getattr(settings, f.name) != getattr(usual, f.name)
    }


def _said(won: float) -> str:
    if won > 0:
        return (
            f"{won:.1%} faster than the usual settings; {MARGIN:.0%} in all workloads together is what counts"
        )
    return f"{-won:.1%} slower than the usual settings"
