"""What the search knows of its trials, and the rules by which it judges them: figures in, decisions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pocketformer.pipeline.limits import broken_limits
from pocketformer.pipeline.recipe import BudgetSection
from pocketformer.report.front import non_dominated

_ROUNDING = 1e-9
# Models within this many times the fastest one's time count as equally fast.
_AS_FAST = 1.1
# Of the latency limit: what a cut aims at, and from where on there is nothing to aim at any more.
_AIM, _NEAR_LIMIT = 0.95, 0.9
# A smaller share of a model's time cannot be cut off at once.
_LEAST_SHARE = 0.35


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One model that the search made, and what was measured of it.

    ``number`` counts from 1 in the order of making and names the folder; ``depth`` is how many strokes led to it, the
    last of them counted half when it was ``aimed`` at a latency: at this share of the time of the model before it;
    ``polished``: trained to the end; ``vocabulary``: share of the embedding rows that stayed. ``metric`` and ``drop``
    (against the teacher) are of validation, fractions of 1; ``divergence`` is of its answers there from the teacher's,
    in nats; ``latency_ms`` p50 by workload and ``speedup`` over the
    teacher in onnxruntime fp32, timed in turns with it; ``file_mb`` is graph and tokenizer. ``layers``: heads and
    feed-forward width of each.
    """

    number: int
    name: str
    depth: float
    polished: bool
    vocabulary: float
    layers: tuple[tuple[int, int], ...]
    metric: float
    drop: float
    divergence: float
    latency_ms: Mapping[str, float]
    speedup: Mapping[str, float]
    file_mb: float
    parameters: int
    candidate: str
    seconds: float = 0.0
    key: str = ""
    aimed: float | None = None
    smoothed_drop: float | None = None

    @property
    def speed(self) -> float:
        """Geometric mean of the medians over the workloads, in ms: no workload may be bought with another."""
        return float(np.exp(np.mean(np.log(list(self.latency_ms.values())))))

    @property
    def judged_drop(self) -> float:
        """The drop by which it is judged: smoothed over the other trials where there are some."""
        return self.drop if self.smoothed_drop is None else self.smoothed_drop

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        """The inverse of ``to_dict``; ``TypeError`` or ``KeyError`` for what is none."""
        layers = tuple((int(heads), int(width)) for heads, width in values["layers"])
        return cls(**{**values, "layers": layers})


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the search has come to: the trial to take, whether it keeps the budget, and what is missing if not."""

    trial: Trial
    kept: bool
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """A budget, applied to trials."""

    budget: BudgetSection

    def missing(self, trial: Trial) -> tuple[str, ...]:
        """Which limits a trial breaks, each in words with both numbers; empty: it keeps the budget."""
        return broken_limits(
            self.budget, drop=trial.judged_drop, latency_ms=trial.latency_ms, size_mb=trial.file_mb
        )

    def judge(self, trials: Sequence[Trial]) -> Judgement:
        """The best of the trials.

        Of those within the budget the fastest, and of those about as fast, whose order is the clock's noise, the one
        that drops least; where the drop has no limit the most accurate. When none keeps it: the fastest that keeps the
        drop, or else the one that drops least. A model that was trained on is no choice any more. ``ValueError``
        without trials.
        """
        if not trials:
            raise ValueError("there is no trial to judge")
        trials = trained_to_the_end(trials)
        within = [t for t in trials if not self.missing(t)]
        if within:
            if self.budget.max_drop is not None:
                fastest = min(t.speed for t in within)
                within = [t for t in within if t.speed <= fastest * _AS_FAST]
            return Judgement(trial=min(within, key=lambda t: (t.judged_drop, t.speed)), kept=True)
        limit = self.budget.max_drop
        accurate = [t for t in trials if limit is not None and t.judged_drop <= limit + _ROUNDING]
        workload = self.budget.latency_workload
        if accurate:
            nearest = min(accurate, key=lambda t: t.latency_ms.get(workload, t.speed))
        else:
            nearest = min(trials, key=lambda t: (t.judged_drop, t.speed))
        return Judgement(trial=nearest, kept=False, missing=self.missing(nearest))

    def without(self, *limits: str) -> Rules:
        """The same budget without these limits."""
        return Rules(self.budget.model_copy(update=dict.fromkeys(limits)))

    def is_fast(self, trial: Trial) -> bool:
        """Whether a trial keeps what training and a smaller vocabulary cannot mend."""
        return not self.without("max_drop", "max_size_mb").missing(trial)


def worth_aiming(trials: Sequence[Trial], rules: Rules) -> tuple[Trial | None, float] | None:
    """A cut for the latency limit: the trial to cut (None: the model that the search began with), and to which share.

    The chain's strokes are as large as they are, so the first model that is fast enough may be far faster than it has
    to be, and drop more. It is worth aiming between it and the one before when it drops too much, or when the drop has
    no limit and accuracy is what counts. None otherwise.
    """
    limit, workload = rules.budget.max_latency_ms, rules.budget.latency_workload
    chain = sorted((t for t in trials if not t.polished and t.aimed is None), key=lambda t: t.depth)
    if limit is None or not chain or workload not in chain[0].latency_ms:
        return None
    fast = next((i for i, t in enumerate(chain) if t.latency_ms[workload] <= limit), None)
    if fast is None:
        slower: Trial | None = chain[-1]
        before = chain[-1].latency_ms[workload]
    else:
        found = chain[fast]
        most = rules.budget.max_drop
        if most is not None and found.judged_drop <= most + _ROUNDING:
            return None
        slower = chain[fast - 1] if fast else None
        before = found.latency_ms[workload] * found.speedup[workload]
        before = slower.latency_ms[workload] if slower is not None else before
        if found.latency_ms[workload] >= _NEAR_LIMIT * limit:
            return None
    share = _AIM * limit / before
    return (slower, round(share, 3)) if _LEAST_SHARE <= share < 1 else None


def trained_to_the_end(trials: Sequence[Trial]) -> list[Trial]:
    """The trials without those from which a polished one was made.

    It takes the same time, and more training brings it nearer to the teacher, which a few hundred rows of validation
    do not always see (docs/decisions/0015).
    """
    polished = {(t.depth, t.aimed) for t in trials if t.polished}
    return [t for t in trials if t.polished or (t.depth, t.aimed) not in polished]


def judged(trials: Sequence[Trial]) -> list[Trial]:
    """The trials as they are compared, with ``smoothed`` drops and ``steadied`` times; give them as measured."""
    return steadied(smoothed(trials))


def smoothed(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with drops in proportion to their divergence from the teacher, by least squares over all of them.

    On a few hundred rows the drop of one model has a standard error of about a point, because only rows whose answer
    changed tell something. The divergence has a far smaller one, and while a student is near its teacher, what it
    drops grows with it. So the drops that were counted say together what a nat of divergence costs
    (docs/decisions/0015). Never below 0: a student is not expected to be better than its teacher.
    """
    squares = sum(t.divergence**2 for t in trials)
    slope = max(0.0, sum(t.divergence * t.drop for t in trials) / squares) if squares else 0.0
    return [replace(t, smoothed_drop=slope * t.divergence) for t in trials]


def steadied(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with times as of one moment, and the same time for the same structure.

    A machine is slower in one minute than in another, and each trial was timed in turns with the teacher: so its time
    is the teacher's median time over all trials, divided by how many times faster than the teacher it was just then.
    Models that differ in their weights alone take the same time; what disturbs a measurement only adds to it.
    """
    if not trials:
        return []
    teacher = {
        name: float(np.median([t.latency_ms[name] * t.speedup[name] for t in trials if name in t.speedup]))
        for name in trials[0].speedup
    }
    fastest: dict[Any, dict[str, float]] = {}
    for t in trials:
        best = fastest.setdefault((t.layers, t.candidate), {})
        for name, factor in t.speedup.items():
            best[name] = max(factor, best.get(name, 0.0))
    return [
        replace(t, speedup=dict(best), latency_ms={name: teacher[name] / best[name] for name in t.latency_ms})
        for t in trials
        for best in (fastest[t.layers, t.candidate],)
    ]


def on_front(trials: Sequence[Trial]) -> list[bool]:
    """Which trials no other beats in drop, speed and size together."""
    return non_dominated([(t.drop, t.speed, t.file_mb) for t in trials])


def worth_polishing(trials: Sequence[Trial], rules: Rules, hope: Callable[[Trial], float]) -> Trial | None:
    """The trial to train to the end next; None when no further one promises anything.

    ``hope``: by how much training to the end may be expected to lower a trial's drop. The fastest one whose drop less
    that is within the budget comes first, or where there is none the one that drops least. What was polished
    teaches: nothing faster than one that failed for its drop is tried, and nothing slower than one that kept the
    budget.
    """
    rules = rules.without("max_size_mb")
    limit = rules.budget.max_drop
    done = [t for t in trials if t.polished]
    failed = [t.depth for t in done if limit is not None and t.judged_drop > limit + _ROUNDING]
    kept = [t.depth for t in done if not rules.missing(t)]
    lowest = max(kept, default=0)
    highest = min(failed, default=max((t.depth for t in trials), default=0) + 1)
    open_ = [
        t
        for t in trials
        if not t.polished and t.depth not in {d.depth for d in done} and lowest < t.depth < highest
    ]
    if limit is None:  # accuracy is what counts: the slowest that is fast enough
        fitting = [t for t in open_ if rules.is_fast(t)]
        return max(fitting, key=lambda t: t.speed) if fitting and not done else None
    open_ = [t for t in open_ if rules.is_fast(t)] or open_
    promising = [t for t in open_ if t.judged_drop - hope(t) <= limit + _ROUNDING]
    if promising:
        return min(promising, key=lambda t: t.speed)
    return min(open_, key=lambda t: (t.judged_drop, t.speed)) if open_ and not done else None
