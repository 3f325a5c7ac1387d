from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pocketformer.runtime.errors import BusyError, InputError, UnavailableError, VerificationError
from pocketformer.runtime.microbatching import MicroBatcher
from pocketformer.runtime.model import Model
from pocketformer.runtime.results import Prediction


class Gated:
    """A stand-in for a model: it records its batches and answers when the gate is open; "bad" makes a batch fail."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.seen: list[list[str]] = []

    def predict(self, texts: list[str], batch_size: int) -> list[Prediction]:
        assert batch_size == len(texts)
        self.seen.append(list(texts))
        self.entered.release()
        assert self.gate.wait(30)
        if "bad" in texts:
            raise VerificationError("the graph failed")
        return [Prediction(text, text.upper(), 1.0) for text in texts]


@pytest.fixture
def gated() -> Iterator[Any]:
    model = Gated()
    yield model
    model.gate.set()  # whatever failed: no thread of a test is left waiting


def test_answers_are_the_models_own(tiny_runtime: Model, tiny_texts: list[str]) -> None:
    with MicroBatcher(tiny_runtime, max_batch=1) as alone:
        assert [alone.predict_one(text) for text in tiny_texts] == [
            tiny_runtime.predict_one(text) for text in tiny_texts
        ]
    expected = {text: tiny_runtime.predict_one(text) for text in tiny_texts}
    with MicroBatcher(tiny_runtime, max_batch=8, max_wait_ms=5) as batcher:
        futures = [batcher.submit(text) for text in tiny_texts]
        for text, future in zip(tiny_texts, futures, strict=True):
            answer = future.result()
            assert (answer.text, answer.label) == (text, expected[text].label)
            assert answer.score == pytest.approx(expected[text].score, abs=1e-5)
        assert batcher.texts == len(tiny_texts)
        assert batcher.batches < len(tiny_texts)


def test_what_came_meanwhile_goes_together(gated: Any) -> None:
    with MicroBatcher(gated, max_batch=3) as batcher:
        futures = [batcher.submit("a")]
        assert gated.entered.acquire(timeout=30)
        futures += [batcher.submit(text) for text in "bcdefgh"]
        assert batcher.waiting == 7
        gated.gate.set()
        assert [future.result(30).label for future in futures] == list("ABCDEFGH")
    assert gated.seen == [["a"], ["b", "c", "d"], ["e", "f", "g"], ["h"]]


def test_a_text_waits_for_company(gated: Any) -> None:
    gated.gate.set()
    with MicroBatcher(gated, max_batch=2, max_wait_ms=60_000) as batcher:
        futures = [batcher.submit("a"), batcher.submit("b"), batcher.submit("c")]
        assert futures[1].result(30).label == "B"  # full: no need to wait
        assert not futures[2].done()
    assert futures[2].result(0).label == "C"  # closing ends the wait, and answers
    assert gated.seen == [["a", "b"], ["c"]]


def test_an_error_reaches_its_sender_alone(gated: Any) -> None:
    gated.gate.set()
    with MicroBatcher(gated, max_batch=3, max_wait_ms=60_000) as batcher:
        futures = [batcher.submit(text) for text in ("a", "bad", "b")]
        assert futures[0].result(30).label == "A"
        assert futures[2].result(30).label == "B"
        with pytest.raises(VerificationError, match="the graph failed"):
            futures[1].result(30)
        assert gated.seen == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


def test_what_is_no_text_never_waits(gated: Any) -> None:
    with MicroBatcher(gated) as batcher, pytest.raises(InputError, match="NoneType is not text"):
        batcher.submit(None)  # type: ignore[arg-type]
    assert gated.seen == []


def test_a_full_queue_refuses_and_who_gave_up_takes_no_place(gated: Any) -> None:
    with MicroBatcher(gated, max_batch=1, max_waiting=2) as batcher:
        first = batcher.submit("a")
        assert gated.entered.acquire(timeout=30)
        second, third = batcher.submit("b"), batcher.submit("c")
        with pytest.raises(BusyError, match="2 texts wait already") as caught:
            batcher.submit("d", timeout_s=0.01)
        assert caught.value.exit_code == 4
        assert second.cancel()
        fourth = batcher.submit("d")
        waits_for_room = threading.Thread(target=lambda: done.append(batcher.predict_one("e", timeout_s=30)))
        done: list[Prediction] = []
        waits_for_room.start()
        gated.gate.set()
        waits_for_room.join(30)
        assert [future.result(30).label for future in (first, third, fourth)] == ["A", "C", "D"]
        assert done[0].label == "E"
    assert ["b"] not in gated.seen


def test_a_wait_that_is_too_long_takes_the_text_back(gated: Any) -> None:
    with MicroBatcher(gated, max_batch=1) as batcher:
        first = batcher.submit("a")
        assert gated.entered.acquire(timeout=30)
        with pytest.raises(BusyError, match=r"no answer within 0\.01 s"):
            batcher.predict_one("b", timeout_s=0.01)
        with pytest.raises(BusyError, match=r"no answer within 0\.01 s"):
            asyncio.run(batcher.apredict_one("c", timeout_s=0.01))
        gated.gate.set()
        assert first.result(30).label == "A"
        assert batcher.predict_one("d").label == "D"
    assert gated.seen == [["a"], ["d"]]


def test_a_cancelled_task_takes_its_text_back(gated: Any) -> None:
    async def ask(batcher: MicroBatcher) -> None:
        tasks = [asyncio.create_task(batcher.apredict_one(text)) for text in "abc"]
        await asyncio.to_thread(gated.entered.acquire, timeout=30)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        gated.gate.set()
        assert [(await tasks[0]).label, (await tasks[2]).label] == ["A", "C"]
        assert tasks[1].cancelled()

    with MicroBatcher(gated, max_batch=1) as batcher:
        asyncio.run(ask(batcher))
    assert gated.seen == [["a"], ["c"]]


def test_closing_answers_what_waits_and_takes_no_more(gated: Any) -> None:
    batcher = MicroBatcher(gated, max_batch=2, max_waiting=3)
    futures = [batcher.submit("a")]
    assert gated.entered.acquire(timeout=30)
    futures += [batcher.submit(text) for text in "bcd"]
    refused: list[Exception] = []

    def too_late() -> None:
        try:
            batcher.submit("e", timeout_s=None)  # waits for room, and learns of the end instead
        except UnavailableError as error:
            refused.append(error)

    threads = [threading.Thread(target=too_late), threading.Thread(target=batcher.close)]
    for thread in threads:
        thread.start()
    threads[0].join(30)
    assert not isinstance(refused[0], BusyError)
    gated.gate.set()
    threads[1].join(30)
    assert [future.result(0).label for future in futures] == list("ABCD")
    batcher.close()
    with pytest.raises(UnavailableError, match="closed"):
        batcher.predict_one("f")


def test_many_threads_and_loops(tiny_runtime: Model, tiny_texts: list[str]) -> None:
    expected = {text: tiny_runtime.predict_one(text).label for text in tiny_texts}
    wrong: list[object] = []

    def ask(batcher: MicroBatcher, number: int) -> None:
        async def gather() -> list[Prediction]:
            return await asyncio.gather(*(batcher.apredict_one(text) for text in tiny_texts))

        answers = [batcher.predict_one(text) for text in tiny_texts] if number % 2 else asyncio.run(gather())
        wrong.extend(item for item in answers if item.label != expected[item.text])
        wrong.extend(["lost"] * (len(answers) != len(tiny_texts)))

    with MicroBatcher(tiny_runtime, max_batch=8, max_waiting=1000) as batcher:
        threads = [threading.Thread(target=ask, args=(batcher, number)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert batcher.texts == 6 * len(tiny_texts)


@pytest.mark.parametrize(
    "wrong", [{"max_batch": 0}, {"max_waiting": 0}, {"max_wait_ms": -1.0}, {"max_wait_ms": float("nan")}]
)
def test_numbers_that_make_no_queue(gated: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        MicroBatcher(gated, **wrong)
