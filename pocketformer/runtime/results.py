"""Result types that all rooms share. Times are seconds inside the library, milliseconds in reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

Output = TypeVar("Output")


@dataclass(frozen=True)
class StepResult(Generic[Output]):
    """What a step made (``output``: a path or a model), what it measured, and what it has to say."""

    output: Output
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of one candidate on one workload, in milliseconds, over ``samples`` timed calls."""

    p50: float
    p90: float
    p99: float
    samples: int

    @classmethod
    def from_seconds(cls, seconds: Sequence[float]) -> LatencySummary:
        """Summarise raw samples in seconds; ``ValueError`` when there are none."""
        if len(seconds) == 0:
            raise ValueError("no latency samples")
        p50, p90, p99 = (float(v) * 1e3 for v in np.percentile(np.asarray(seconds), [50, 90, 99]))
        return cls(p50=p50, p90=p90, p99=p99, samples=len(seconds))


@dataclass(frozen=True)
class Prediction:
    """One answer: the text, its label and the label's probability in [0, 1]."""

    text: str
    label: str
    score: float
