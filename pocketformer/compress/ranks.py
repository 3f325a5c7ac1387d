"""Training in several processes: process 0 does a run, and calls the others in whenever it trains.

``torchrun`` and ``accelerate launch`` start one program several times and tell each copy its rank. Copies of rank 1
and above ``follow``: they wait, and take part in each training that process 0 begins. So every verb may be started
that way, nothing is written twice, and what is timed is timed once. The averaging of gradients is that of
``torch.nn.parallel.DistributedDataParallel``, which the Trainer of transformers sets up through accelerate.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pocketformer.compress.context import StepContext, stay_silent
from pocketformer.runtime.errors import PocketformerError, UnavailableError
from pocketformer.runtime.results import StepResult

Step = Callable[..., StepResult[Path]]  # of a model directory, a config and a StepContext

# Process 0 may measure for hours between two trainings. One that dies is noticed at once, by its closed connection.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a process has of a batch: its rows and tokens as multiples of an equal share.

    A mean over this process's rows times ``rows`` is such that the mean over all processes is that over all rows; of a
    mean over tokens ``tokens`` says the same.
    """

    rows: float = 1.0
    tokens: float = 1.0


class Ranks:
    """The processes that train together, as one of them sees them. Alone it is ``Ranks()``, and nothing is sent."""

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None) -> None:
        self.rank = rank
        self.size = size
        self._group = group
        self.preparing = False
        self.busy = False

    def part(self, batch: Sequence[int], lengths: Sequence[int]) -> tuple[list[int], Share]:
        """Which of a batch's rows are this process's, at least one; ``lengths`` are of all rows, in tokens.

        Every process is given the same batch. Rows of a batch come sorted by length, so each takes every n-th.
        """
        mine = list(batch[self.rank :: self.size])
        if not mine:  # it has to go through the same motions as the others, and counts for nothing
            return list(batch[:1]), Share(rows=0.0, tokens=0.0)
        tokens = sum(lengths[i] for i in mine) / sum(lengths[i] for i in batch)
        return mine, Share(rows=self.size * len(mine) / len(batch), tokens=self.size * tokens)

    def mean(self, value: float) -> float:
        """The mean of what all processes give."""
        if self.size == 1:
            return value
        import torch
        from torch import distributed

        total = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(total, group=self._group)
        return float(total) / self.size

    def gather(self, value: Any) -> list[Any]:
        """What each process gives, by rank."""
        if self.size == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value, group=self._group)
        return values

    def agree(self, error: str | None = None) -> None:
        """Wait for all. When one has an ``error``, the others raise ``UnavailableError`` with it."""
        if self.size == 1:
            return
        errors = self.gather(error)
        self.preparing = self.preparing and not any(errors)
        if error is None and any(errors):
            rank = next(rank for rank, said in enumerate(errors) if said)
            raise UnavailableError(
                f"process {rank} of {self.size} could not go on: {errors[rank]}",
                hint="All processes need the same packages, and the same files under the same paths.",
            )

    def begin(self) -> None:
        """Wait until all are ready to train: from here on all meet the same errors."""
        self.agree()
        self.preparing = False

    def send(self, job: Any) -> None:
        """Give the others something to do; None sends them home."""
        from torch import distributed

        distributed.broadcast_object_list([job], src=0, group=self._group)

    def receive(self) -> Any:
        """What process 0 has sent."""
        from torch import distributed

        box = [None]
        distributed.broadcast_object_list(box, src=0, group=self._group)
        return box[0]


_ranks = Ranks()


def current_ranks() -> Ranks:
    """The processes that this one trains with: itself alone unless it has joined others."""
    return _ranks


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def join() -> Ranks:
    """Meet the other processes that the launcher started; alone where there are none.

    ``UnavailableError`` when they do not come. When process 0 ends, the others are sent home.
    """
    global _ranks
    if not launched() or _ranks.size > 1:
        return _ranks
    import torch
    from accelerate import PartialState
    from torch import distributed

    try:
        state = PartialState(cpu=not torch.cuda.is_available())
        group = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UnavailableError(
            f"the processes that were started together do not find each other: {error}",
            hint="Start all of them with the same torchrun command; check --rdzv-endpoint and the firewall.",
        ) from error
    _ranks = Ranks(state.process_index, state.num_processes, group)
    atexit.register(_leave)
    return _ranks


def follow() -> None:
    """Take part in what process 0 trains, until it has ended. For processes of rank 1 and above."""
    while True:
        try:
            job = _ranks.receive()
        except RuntimeError:  # process 0 has gone without a word
            return
        if job is None:
            return
        module, name, model_dir, config, context, options = job
        step: Step = getattr(importlib.import_module(module), name)
        try:
            step(model_dir, config, context, **options)
        except PocketformerError:
            continue  # process 0 has it too, and tells


def in_all_processes(step: Step) -> Step:
    """Let all processes take the step that process 0 takes. Inside, one with rank 0 alone writes."""

    @functools.wraps(step)
    def together(model_dir: Path, config: Any, context: StepContext, **options: Any) -> StepResult[Path]:
        ranks = current_ranks()
        if ranks.size == 1:
            return step(model_dir, config, context, **options)
        import torch

        if ranks.rank == 0:
            quiet = replace(context, on_progress=stay_silent)
            job = (step.__module__, step.__name__, model_dir.absolute(), config, _absolute(quiet), options)
            ranks.send(job)
        ranks.preparing = ranks.busy = True
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, context.threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
        try:
            result = step(model_dir, config, context, **options)
        except Exception as error:
            if ranks.preparing:
                ranks.agree(f"{socket.gethostname()}: {error}")
            elif _is_lost(error):
                raise UnavailableError(
                    "another process of this training was lost",
                    hint="Look for its error above; the same command again goes on from the last whole stage.",
                ) from error
            ranks.busy = not isinstance(error, PocketformerError)
            raise
        finally:
            torch.set_num_threads(threads)
        ranks.busy = False
        return result

    return together


def _absolute(context: StepContext) -> StepContext:
    """The same folders, whatever the working directory is where they are used."""
    return replace(
        context,
        output=context.output.absolute(),
        work=context.work.absolute(),
        cache=context.cache and context.cache.absolute(),
        teacher=context.teacher and context.teacher.absolute(),
    )


def _is_lost(error: Exception) -> bool:
    from torch import distributed

    said = str(error).lower()
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in said or "connection" in said)
    )


def _leave() -> None:
    """Send the others home, unless this process ends in the middle of what they do together."""
    from torch import distributed

    if _ranks.busy:
        return
    with contextlib.suppress(RuntimeError):  # they may have gone already
        if _ranks.rank == 0:
            _ranks.send(None)
        distributed.destroy_process_group()
