"""How far a build is: what TensorRT's progress monitor tells, handed to a callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from pocketformer.runtime.tensorrt.library import Library


@dataclass(frozen=True)
class BuildProgress:
    """One sign of life of a build: ``step`` of ``total`` in ``phase``, TensorRT's name for what it does.

    Phases lie in one another: ``parent`` is the one around it, None for the build as a whole.
    """

    phase: str
    parent: Optional[str]
    step: int
    total: int


OnProgress = Callable[[BuildProgress], None]


class Monitor:
    """An ``IProgressMonitor`` for ``IBuilderConfig.progress_monitor`` around a Python callback.

    An exception in the callback cannot cross the builder: it is kept in ``failure``, and the build is cancelled.
    """

    def __init__(self, library: Library, on_progress: OnProgress) -> None:
        self.failure: BaseException | None = None
        self._on_progress = on_progress
        self._phases: dict[str, tuple[str | None, int]] = {}
        self.monitor = _monitor(library.module, self)

    def started(self, phase: str, parent: str | None, total: int) -> None:
        """A phase of ``total`` steps begins inside of ``parent``."""
        self._phases[phase] = (parent, total)

    def advanced(self, phase: str, step: int) -> bool:
        """A step, counted from 0, is done; False cancels the build."""
        if self.failure is None:
            try:
                parent, total = self._phases.get(phase, (None, step + 1))
                done = min(step + 1, total)
                self._on_progress(BuildProgress(phase=phase, parent=parent, step=done, total=total))
            except BaseException as error:  # noqa: BLE001 (raised again when the builder has returned)
                self.failure = error
        return self.failure is None


def _monitor(module: Any, owner: Monitor) -> Any:
    class ProgressMonitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            owner.started(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return owner.advanced(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            pass

    return ProgressMonitor()
