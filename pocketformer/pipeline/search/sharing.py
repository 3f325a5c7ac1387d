"""Several workers on one search: each trial is a trial of an Optuna study, claimed there by whoever is free.

The chain of cuts stays a chain, because each model is cut out of the one before. What is trained to the end is not: the
model that is worth it and those that would come next if it failed are offered together. The process that holds the run
directory leads: it alone offers trials, judges them and goes on to the next stage. A worker that dies is noticed by the
heartbeat that Optuna keeps in its database, and the leader offers its trial again.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pocketformer.compress.context import Progress
from pocketformer.pipeline.context import Listener, RunContext, SilentListener
from pocketformer.pipeline.recipe import digest, plain
from pocketformer.pipeline.search.config import SearchConfig
from pocketformer.pipeline.search.making import Workshop
from pocketformer.pipeline.search.trials import Rules, Trial, worth_polishing
from pocketformer.runtime.errors import InputError, MissingDependencyError, PocketformerError
from pocketformer.targets.machine_lock import MachineLock
from pocketformer.targets.probe import probe_cpu

log = logging.getLogger("pocketformer")

_TOO_MUCH = 2.0  # a drop that no budget allows
_OPENED_AT_MOST = 5


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """How a search is shared. ``store``: a database as SQLAlchemy names it, or the path of an SQLite file.

    A worker says every ``heartbeat_s`` seconds that it lives; one that has not for ``grace_s`` is given up, and its
    trial is made again. A trial that failed with an error ``attempts`` times ends the search. ``poll_s``: how long one
    that has nothing to do waits before it looks again.
    """

    store: str
    heartbeat_s: int = 20
    grace_s: int = 120
    attempts: int = 3
    poll_s: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What makes one trial: its number, and out of which trial (0: the model that the search is given)."""

    kind: str
    number: int
    source: int
    depth: float = 0
    share: float = 1.0


class Board:
    """The study of one search: jobs are offered, claimed and done there."""

    def __init__(self, sharing: Sharing, name: str) -> None:
        try:
            import optuna
        except ImportError as error:
            raise MissingDependencyError(
                "a shared search needs Optuna, which is not installed",
                hint="Install it with: pip install 'pocketformer[optuna]'",
            ) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._sharing = sharing
        self._storage = _storage(sharing)
        self._name = name
        self._study: Any = None

    def open(self, *, make: bool) -> bool:
        """Find the study, or make it; whether it is there."""
        optuna = self._optuna
        if self._study is None and make:
            with _experimental():
                self._study = optuna.create_study(
                    study_name=self._name,
                    storage=self._storage,
                    directions=["minimize", "minimize"],
                    load_if_exists=True,
                )
                self._study.set_metric_names(["drop", "ms"])
        elif self._study is None and self._name in optuna.get_all_study_names(self._storage):
            self._study = optuna.load_study(study_name=self._name, storage=self._storage)
        return self._study is not None

    def offer(self, job: Job) -> None:
        """Put a job up unless it is there already and has not failed; an error when it failed too often."""
        entries = self._entries(job)
        states = self._optuna.trial.TrialState
        if any(entry.state not in (states.FAIL, states.PRUNED) for entry in entries):
            return
        errors = [entry.user_attrs["error"] for entry in entries if "error" in entry.user_attrs]
        if len(errors) >= self._sharing.attempts:
            raise PocketformerError(f"trial {job.number} failed {len(errors)} times: {errors[-1]}")
        self._study.enqueue_trial({}, user_attrs={"job": asdict(job)})

    def is_done(self, job: Job) -> bool:
        """Whether a job is done."""
        return any(entry.state == self._optuna.trial.TrialState.COMPLETE for entry in self._entries(job))

    def is_open(self, job: Job) -> bool:
        """Whether a job waits or is at work."""
        states = self._optuna.trial.TrialState
        return any(entry.state in (states.WAITING, states.RUNNING) for entry in self._entries(job))

    def drop_dead(self) -> None:
        """Give up what workers had that show no sign of life."""
        with _experimental():
            self._optuna.storages.fail_stale_trials(self._study)

    def work(self, make: Callable[[Job], Trial | None]) -> bool:
        """Claim a job and do it with ``make``, which gives None for one to be withdrawn; False when none waits."""
        optuna = self._optuna
        waiting = optuna.trial.TrialState.WAITING
        if not self._study.get_trials(deepcopy=False, states=(waiting,)):
            return False
        ended: list[bool] = []

        def objective(claimed: Any) -> tuple[float, float]:
            values = claimed.user_attrs.get("job")
            if values is None:  # another worker was faster, and Optuna made up a trial of its own
                raise optuna.TrialPruned
            job = Job(**values)
            claimed.set_user_attr("worker", f"{socket.gethostname()} {os.getpid()}")
            try:
                trial = make(job)
            except Exception as error:
                claimed.set_user_attr("error", str(error))
                raise
            ended.append(True)
            if trial is None:
                raise optuna.TrialPruned
            claimed.set_user_attr("trial", {"key": trial.key, "name": trial.name, "seconds": trial.seconds})
            return trial.drop, trial.speed

        try:
            with _experimental():
                self._study.optimize(objective, n_trials=1)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError) as error:
            # It was given up while it was at work, because this process was paused. What was made is on the disk, and
            # whoever has the trial now finds it there.
            if not ended and "Cannot tell" not in str(error):
                raise
            log.warning("a trial was given up before this worker was done: %s", error)
        return True

    def _entries(self, job: Job) -> list[Any]:
        wanted = asdict(job)
        return [t for t in self._study.get_trials(deepcopy=False) if t.user_attrs.get("job") == wanted]


class SharedWorkshop(Workshop):
    """A workshop whose trials are made by whoever is free, this process included."""

    def __init__(self, config: SearchConfig, context: RunContext, *, folder: Path, work: Path) -> None:
        if context.sharing is None:
            raise ValueError("the context names no store")
        self._lock = MachineLock()
        listener = _GivingWay(context.listener, self._lock)
        super().__init__(
            config, replace(context, timing=self._lock.timing, listener=listener), folder=folder, work=work
        )
        self._sharing = context.sharing
        # Times are compared, so that only machines of one kind search together.
        kind = [
            self.base_key,
            plain(config),
            context.recipe.budget.model_dump(mode="json"),
            probe_cpu()["model"],
        ]
        self.board = Board(self._sharing, f"pocketformer-{digest(kind)[:32]}")
        self._offered: dict[int, tuple[Job, Trial]] = {}  # by the trial that is to be polished
        self._highest = 0

    def stroke(self, number: int, depth: int, source: Path, previous_key: str) -> Trial:
        """As in ``Workshop``, whoever makes it."""
        previous = 0 if not previous_key else int(source.parent.name)
        self._wait_for(Job(kind="stroke", number=number, source=previous, depth=depth))
        return super().stroke(number, depth, source, previous_key)

    def aimed(self, number: int, trial: Trial | None, source: Path, share: float) -> Trial:
        """As in ``Workshop``, made here: it is cut by this machine's latency table, and nobody has other work then."""
        with self.at_work():
            return super().aimed(self._free(number), trial, source, share)

    def polish(self, number: int, trial: Trial) -> Trial:
        """As in ``Workshop``, whoever makes it."""
        known = self._offered.pop(trial.number, None)
        job = self._polish_job(number, trial) if known is None else known[0]
        self._wait_for(job)
        return super().polish(job.number, trial)

    def with_vocabulary(self, number: int, trial: Trial, share: float) -> Trial:
        """As in ``Workshop``, whoever makes it."""
        number = self._free(number)
        self._wait_for(Job(kind="vocabulary", number=number, source=trial.number, share=share))
        return super().with_vocabulary(number, trial, share)

    def offer_polish(
        self, trials: Sequence[Trial], rules: Rules, hope: Callable[[Trial], float], at_most: int
    ) -> None:
        """Offer what would be trained to the end next, and after that, should all of them fail."""
        self.board.open(make=True)
        for trial in likely_polishes(trials, rules, hope, at_most):
            if trial.number not in self._offered:
                self._offered[trial.number] = self._polish_job(len(trials) + 1, trial), trial
            self.board.offer(self._offered[trial.number][0])

    def begun(self) -> Iterator[Trial]:
        """The offered trials that somebody has begun, when they are done; the others are withdrawn."""
        for job, source in self._offered.values():
            while self.board.is_open(job):
                self.board.drop_dead()
                if not self.board.work(lambda _: None):
                    time.sleep(self._sharing.poll_s)
            if self.board.is_done(job):
                yield super().polish(job.number, source)
        self._offered.clear()

    def drop_after(self, number: int) -> None:
        """As in ``Workshop``; what was offered may have higher numbers."""
        super().drop_after(max(number, self._highest))

    def at_work(self) -> AbstractContextManager[None]:
        """As in ``Workshop``: not while another worker of this machine times."""
        return self._lock.working()

    def make(self, job: Job) -> Trial:
        """Make the trial of a job here."""
        log.info("making trial %d (%s)", job.number, job.kind)
        with self.at_work():
            if job.kind == "stroke":
                previous = self.read(job.source) if job.source else None
                key = "" if previous is None else previous.key
                return super().stroke(job.number, int(job.depth), self.source(previous), key)
            if job.kind == "polish":
                return super().polish(job.number, self.read(job.source))
            return super().with_vocabulary(job.number, self.read(job.source), job.share)

    def _wait_for(self, job: Job) -> None:
        """Offer a job and work, at this or at another one, until it is done."""
        self._highest = max(self._highest, job.number)
        self.board.open(make=True)
        while not self.board.is_done(job):
            self.board.drop_dead()
            self.board.offer(job)
            if not self.board.work(self.make):
                time.sleep(self._sharing.poll_s)

    def _polish_job(self, number: int, trial: Trial) -> Job:
        return Job(kind="polish", number=self._free(number), source=trial.number, depth=trial.depth)

    def _free(self, number: int) -> int:
        self._highest = max(number, self._highest + 1)
        return self._highest


def workshop_for(config: SearchConfig, context: RunContext, *, folder: Path, work: Path) -> Workshop:
    """The workshop of a search: shared where the context names a store."""
    kind = Workshop if context.sharing is None else SharedWorkshop
    return kind(config, context, folder=folder, work=work)


def likely_polishes(
    trials: Sequence[Trial], rules: Rules, hope: Callable[[Trial], float], at_most: int
) -> list[Trial]:
    """What is worth training to the end, in the order in which it would be, should each before it drop too much."""
    known = list(trials)
    found: list[Trial] = []
    while len(found) < at_most:
        trial = worth_polishing(known, rules, hope)
        if trial is None:
            break
        found.append(trial)
        known.append(replace(trial, polished=True, drop=_TOO_MUCH, smoothed_drop=None))
    return found


class _GivingWay(SilentListener):
    """Lets measurements of other workers pass at every sign of life."""

    def __init__(self, listener: Listener, lock: MachineLock) -> None:
        self._listener = listener
        self._lock = lock

    def stage_progress(self, progress: Progress) -> None:
        """Pass it on, when nobody times."""
        self._lock.give_way()
        self._listener.stage_progress(progress)


def _storage(sharing: Sharing) -> Any:
    import optuna

    url = sharing.store if "://" in sharing.store else f"sqlite:///{Path(sharing.store).absolute()}"
    # SQLite lets one write at a time; the others wait.
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    for attempt in range(_OPENED_AT_MOST):
        try:
            with _experimental():
                return optuna.storages.RDBStorage(
                    url,
                    engine_kwargs=options,
                    heartbeat_interval=sharing.heartbeat_s,
                    grace_period=sharing.grace_s,
                )
        except Exception as error:  # each database driver has errors of its own
            # Two that make the tables of a new database at once get into each other's way.
            if attempt + 1 < _OPENED_AT_MOST:
                time.sleep(0.3)
                continue
            # The address may hold a password, and so may what the driver says of it.
            raise InputError(
                f"the store of the search cannot be opened ({type(error).__name__})",
                hint="Give a path for SQLite, or an address such as postgresql://user:password@host/database.",
            ) from error
    raise AssertionError("not reached")


@contextmanager
def _experimental() -> Iterator[None]:
    """Heartbeats are experimental in Optuna, which says so each time."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
