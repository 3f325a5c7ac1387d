"""Texts that arrive one by one, from many threads or tasks, answered in batches: a queue in front of a model.

    with MicroBatcher(model, max_batch=16) as batcher:
        batcher.predict_one("What is the capital of France ?")         # from any thread
        await batcher.apredict_one("What is the capital of France ?")  # from any event loop

What a batch gains depends on the machine and the model: measure before using one.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Optional

from pocketformer.runtime.errors import BusyError, InputError, UnavailableError
from pocketformer.runtime.results import Prediction

if TYPE_CHECKING:
    from pocketformer.runtime.model import Model


@dataclass(frozen=True, eq=False)
class _Request:
    text: str
    future: Future[Prediction]
    arrived: float = field(default_factory=monotonic)


class MicroBatcher:
    """A bounded queue before ``model``. All methods may be called from several threads at once.

    A batch holds at most ``max_batch`` texts, in the order of their arrival. What came while another batch was
    computed goes together; beyond that the first text waits up to ``max_wait_ms`` milliseconds for company (0: never).
    At most ``max_waiting`` texts wait; more are refused with ``BusyError``, so that a flood is told of and not hoarded.

    A batch that fails is computed again text by text: an error reaches the one who sent the text, and nobody else.

    With ``max_batch`` 1 answers are those of ``predict_one``. Above that a graph with dynamic int8 quantizes the
    activations of a text together with those of its company: its logits depend on who else asks, and now and then its
    label does (docs/serving.md has figures). Other graphs move by the rounding of float32 at most.

    Raises ``InputError`` for numbers that make no queue.
    """

    def __init__(
        self, model: Model, *, max_batch: int = 32, max_wait_ms: float = 0.0, max_waiting: int = 256
    ) -> None:
        if max_batch < 1 or max_waiting < 1 or not 0.0 <= max_wait_ms < float("inf"):
            raise InputError(
                f"max_batch is {max_batch}, max_wait_ms {max_wait_ms} and max_waiting {max_waiting}",
                hint="Use a max_batch and a max_waiting of at least 1, and a finite wait of at least 0.",
            )
        self.model = model
        self.max_batch = max_batch
        self.max_wait_ms = max_wait_ms
        self.max_waiting = max_waiting
        # How many batches were computed, and how many texts were in them; those that failed count too.
        self.batches = 0
        self.texts = 0
        self._queue: deque[_Request] = deque()
        self._working = False
        self._closed = False
        lock = threading.Lock()
        self._lock = lock
        self._arrived = threading.Condition(lock)
        self._room = threading.Condition(lock)
        # One thread: a batch has all cores already. Python ends it with this object, or when Python itself ends.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pocketformer-batches")

    @property
    def waiting(self) -> int:
        """How many texts wait."""
        return len(self._queue)

    def submit(self, text: str, *, timeout_s: Optional[float] = 0.0) -> Future[Prediction]:
        """Queue a text; its answer as a future, which may be cancelled as long as the text waits.

        Where the queue is full, waits up to ``timeout_s`` seconds for room (None: for ever), then raises ``BusyError``.
        Raises ``InputError`` for what is no text, ``UnavailableError`` after ``close``.
        """
        if not isinstance(text, str):
            raise InputError(f"{type(text).__name__} is not text", hint="Give one str.")
        future: Future[Prediction] = Future()
        with self._lock:
            has_room = self._room.wait_for(self._has_room, timeout_s)
            if self._closed:
                raise UnavailableError("this queue is closed", hint="Make another MicroBatcher.")
            if not has_room:
                raise BusyError(
                    f"{len(self._queue)} texts wait already",
                    hint="Ask again later, or let more wait (max_waiting).",
                )
            if not self._working:
                self._thread.submit(self._work)
                self._working = True
            self._queue.append(_Request(text, future))
            self._arrived.notify()
        return future

    def predict_one(self, text: str, *, timeout_s: Optional[float] = None) -> Prediction:
        """The answer to one text. ``BusyError`` when there is none after ``timeout_s`` seconds (None: however long)."""
        start = monotonic()
        future = self.submit(text, timeout_s=timeout_s)
        left = None if timeout_s is None else timeout_s - (monotonic() - start)
        try:
            return future.result(left)
        except FutureTimeoutError as error:
            future.cancel()
            raise _too_late(timeout_s) from error

    async def apredict_one(self, text: str, *, timeout_s: Optional[float] = None) -> Prediction:
        """``predict_one`` for asyncio; a full queue raises ``BusyError`` at once. Cancelling it takes the text back."""
        import asyncio

        try:
            return await asyncio.wait_for(asyncio.wrap_future(self.submit(text)), timeout_s)
        except asyncio.TimeoutError as error:
            raise _too_late(timeout_s) from error

    def close(self) -> None:
        """Take no more texts, answer those that wait, and return when that is done. Closing twice does no harm."""
        with self._lock:
            self._closed = True
            self._arrived.notify_all()
            self._room.notify_all()
        self._thread.shutdown(wait=True)

    def __enter__(self) -> MicroBatcher:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _has_room(self) -> bool:
        if len(self._queue) >= self.max_waiting:
            # Who has given up takes no place from others.
            self._queue = deque(item for item in self._queue if not item.future.cancelled())
        return self._closed or len(self._queue) < self.max_waiting

    def _work(self) -> None:
        """Compute batches until nothing waits."""
        while True:
            with self._lock:
                batch = self._next_batch()
                if not batch:
                    self._working = False
                    return
                self._room.notify_all()
            self._answer(batch)

    def _next_batch(self) -> list[_Request]:
        """Those whose turn it is, none when nothing waits. Called with the lock, which is free while it waits."""
        batch: list[_Request] = []
        while self._queue and not batch:
            until = self._queue[0].arrived + self.max_wait_ms / 1000.0
            while len(self._queue) < self.max_batch and not self._closed:
                left = until - monotonic()
                if left <= 0.0:
                    break
                self._arrived.wait(left)
            while self._queue and len(batch) < self.max_batch:
                request = self._queue.popleft()
                if request.future.set_running_or_notify_cancel():
                    batch.append(request)
        return batch

    def _answer(self, batch: list[_Request]) -> None:
        self.batches += 1
        self.texts += len(batch)
        try:
            answers = self.model.predict([request.text for request in batch], batch_size=len(batch))
        except Exception as error:  # noqa: BLE001 - whatever it is, the sender learns of it
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for request in batch:
                self._answer([request])
            return
        for request, answer in zip(batch, answers):
            request.future.set_result(answer)


def _too_late(timeout_s: Optional[float]) -> BusyError:
    return BusyError(f"no answer within {timeout_s} s", hint="Ask again later, or wait longer.")
