"""What the processes that share a search do while another one has the run directory: they make trials for it."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.pipeline.context import RunContext
from pocketformer.pipeline.rundir import RunDirectory, read_run
from pocketformer.pipeline.search.choosing import FOLDER
from pocketformer.pipeline.search.config import SearchConfig
from pocketformer.pipeline.search.sharing import SharedWorkshop, Sharing
from pocketformer.runtime.errors import RunDirectoryError, RunInUseError

_WONDERING_S = 60.0


def open_or_help(
    output: Path, identity: str, begin: Callable[[RunDirectory], RunContext], *, force: bool, sharing: Sharing
) -> RunDirectory:
    """The run directory, once no other process has it; until then the search that goes on there is helped.

    ``identity`` is the fingerprint of the recipe, which has a search; ``begin`` gives the context of a run in a
    directory. Who gets the directory carries out the run: where the process before it has ended it, all its stages are
    there.
    """
    helper: _Helper | None = None
    surprised = False
    try:
        while True:
            try:
                return RunDirectory.open(output, recipe_id=identity, force=force)
            except RunInUseError:
                helper = helper or _Helper(output, identity, begin)
            except RunDirectoryError:
                # Another process may have begun the run while this one looked at the directory: look again.
                if surprised:
                    raise
                surprised = True
                continue
            if not helper.work():
                time.sleep(sharing.poll_s)
    finally:
        if helper is not None:
            helper.close()


class _Helper:
    """One process that makes trials for the run in ``output``, which another process leads."""

    def __init__(self, output: Path, identity: str, begin: Callable[[RunDirectory], RunContext]) -> None:
        self._identity = identity
        self._output = output
        self._context = begin(RunDirectory(output, lock=-1))
        self._before = [step.name for step in self._context.recipe.steps].index("search")
        self._config: SearchConfig = self._context.recipe.steps[self._before].config
        # Hidden, so that it goes with the leftovers when the run has ended.
        self._scratch = output / "stages" / f".search-{socket.gethostname()}-{os.getpid()}"
        self._workshop: SharedWorkshop | None = None
        self._since = 0.0
        self._told = False
        self._context.listener.note("another process leads this run; this one makes trials of its search")

    def work(self) -> bool:
        """Make a trial; False when there is none to make."""
        workshop = self._workshop = self._workshop or self._enter()
        if workshop is None:
            return False
        if not workshop.board.open(make=False):
            self._wonder()
            return False
        workshop.board.drop_dead()
        return workshop.board.work(workshop.make)

    def _wonder(self) -> None:
        """Say once why there may be nothing to do, when that has lasted."""
        self._since = self._since or time.monotonic()
        if not self._told and time.monotonic() - self._since > _WONDERING_S:
            self._told = True
            self._context.listener.note(
                "the search that goes on there is none that this process can help: it has other packages, files, "
                "threads, another store or another processor; waiting for its end"
            )

    def close(self) -> None:
        """Delete what only this process used."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _enter(self) -> SharedWorkshop | None:
        """The workshop, as soon as the run has come to its search."""
        record = read_run(self._output)
        if record is None or record["recipe_id"] != self._identity or len(record["stages"]) != self._before:
            return None
        artefacts = Artefacts.from_json(record["artefacts"], self._output)
        context = replace(self._context, artefacts=artefacts)
        return SharedWorkshop(self._config, context, folder=self._output / FOLDER, work=self._scratch)
