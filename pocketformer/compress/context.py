"""What every step is given beside a model: the data, where to write, and how to speak while it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pocketformer.compress.data import Splits
from pocketformer.compress.prune.costs import BlockCosts


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One sign of life of a step: ``step`` of ``total``, with the latest figures (loss, validation metric)."""

    step: int
    total: int
    figures: Mapping[str, float] = field(default_factory=dict)


def stay_silent(_: Progress) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """The surroundings of one step.

    ``output`` is the directory that the step makes; ``work`` a scratch directory that the caller deletes;
    ``cache`` one that the steps of a run share; ``teacher`` the directory of the model that is imitated,
    for the steps that need one; ``max_length`` the
    number of token ids kept of a text; ``threads`` the cores that torch may use; ``max_drop`` what the metric may
    fall by (None: no limit), for the steps that choose by it; ``costs`` what blocks cost on the target (None: not
    measured).
    """

    splits: Splits
    output: Path
    work: Path
    cache: Path | None = None
    teacher: Path | None = None
    max_length: int = 128
    metric: str = "accuracy"
    seed: int = 0
    threads: int = 1
    max_drop: float | None = None
    costs: BlockCosts | None = None
    on_progress: Callable[[Progress], None] = stay_silent
