"""What the stages of one run share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.runtime.errors import RecipeError

if TYPE_CHECKING:
    from pocketformer.compress.context import Progress, StepContext
    from pocketformer.compress.data import Splits
    from pocketformer.pipeline.recipe import Recipe
    from pocketformer.pipeline.rundir import RunDirectory
    from pocketformer.pipeline.search.sharing import Sharing
    from pocketformer.pipeline.search.trials import Trial

log = logging.getLogger("pocketformer")


class Listener(Protocol):
    """Hears how a run goes on; the command line draws it."""

    def run_started(self, stages: list[str]) -> None:
        """A run of these stages begins."""

    def stage_started(self, name: str, index: int, total: int) -> None:
        """Stage number ``index`` of ``total``, counted from 1, begins."""

    def stage_progress(self, progress: Progress) -> None:
        """The stage at work is alive."""

    def stage_finished(self, name: str, record: Mapping[str, Any], *, reused: bool) -> None:
        """A stage has ended, or was taken from an earlier run."""

    def trials(self, trials: Sequence[Trial], best: Trial) -> None:
        """The search has made one more model, the last of ``trials``; ``best`` is what it would take now."""

    def note(self, text: str) -> None:
        """A remark between signs of life."""


class SilentListener:
    """Hears and says nothing."""

    def run_started(self, stages: list[str]) -> None:
        """Ignore."""

    def stage_started(self, name: str, index: int, total: int) -> None:
        """Ignore."""

    def stage_progress(self, progress: Progress) -> None:
        """Ignore."""

    def stage_finished(self, name: str, record: Mapping[str, Any], *, reused: bool) -> None:
        """Ignore."""

    def trials(self, trials: Sequence[Trial], best: Trial) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a stage made: artefacts by kind (names relative to its folder), figures, remarks, measured choices."""

    artefacts: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    choices: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class RunContext:
    """One run while it goes on. ``records`` are the finished stages, oldest first.

    ``earlier`` is the folder of the stage at work as an earlier run left it, with the same key, when part of it
    had failed: what is whole in it need not be made again.
    ``threads_fixed``: the recipe or the target says how many threads, else they are all that there are.
    ``sharing``: how a search is shared with other processes; ``timing`` is entered while something is timed.
    """

    recipe: Recipe
    directory: RunDirectory
    artefacts: Artefacts
    metric: str
    threads: int
    listener: Listener
    splits: Splits | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    choices: dict[str, Any] = field(default_factory=dict)
    index: int = 0
    earlier: Path | None = None
    threads_fixed: bool = False
    sharing: Sharing | None = None
    timing: Callable[[], AbstractContextManager[None]] = nullcontext

    def need_splits(self, verb: str) -> Splits:
        """The data; ``RecipeError`` when the recipe names none."""
        if self.splits is None:
            raise RecipeError(f"{verb} needs data, and none is given", hint="Name a file with --train.")
        return self.splits

    def step_context(self, folder: Path, *, verb: str) -> StepContext:
        """The surroundings of a compress step that writes ``folder``/model."""
        from pocketformer.compress.context import StepContext

        return StepContext(
            splits=self.need_splits(verb),
            output=folder / "model",
            work=folder / "work",
            # Hidden, so that it goes with the leftovers when the run has ended.
            cache=self.directory.path / "stages" / ".teacher",
            teacher=self.artefacts.teacher,
            max_length=self.recipe.max_length,
            metric=self.metric,
            seed=self.recipe.seed,
            threads=self.threads,
            max_drop=self.recipe.budget.max_drop,
            on_progress=self.listener.stage_progress,
        )
