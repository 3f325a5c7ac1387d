"""``Model.apredict``: answers of ``predict``, an event loop that goes on, any number of loops, cancelled calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.runtime.engine import Engine
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.model import Model, load


class Gated:
    """An engine that computes when the gate is open; a stand-in for a slow one around a real one."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.input_names, self.output_shape = engine.input_names, engine.output_shape
        self.providers = engine.providers
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls = 0

    def run(self, feeds: Mapping[str, Any]) -> np.ndarray:
        self.calls += 1
        self.entered.release()
        assert self.gate.wait(30)
        return self.engine.run(feeds)


@pytest.fixture
def slow(tiny_bundle: Path) -> Model:
    model = load(tiny_bundle)
    return Model(model.manifest, Gated(model.engine), model.encoder)


def test_answers_of_predict(tiny_runtime: Model, tiny_texts: list[str]) -> None:
    assert asyncio.run(tiny_runtime.apredict(tiny_texts, batch_size=8)) == tiny_runtime.predict(
        tiny_texts, batch_size=8
    )
    assert asyncio.run(tiny_runtime.apredict([])) == []
    with pytest.raises(InputError, match="item 0 is int"):
        asyncio.run(tiny_runtime.apredict([3]))  # type: ignore[list-item]


def test_the_loop_goes_on(slow: Any) -> None:
    async def ask() -> str:
        task = asyncio.create_task(slow.apredict(["cat dog"]))
        await asyncio.to_thread(slow.engine.entered.acquire, timeout=30)
        assert not task.done()
        slow.engine.gate.set()  # only a loop that goes on gets here
        return (await task)[0].label

    assert asyncio.run(ask()) == slow.predict_one("cat dog").label


def test_cancelled_while_waiting_is_never_computed(slow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketformer.runtime.model.available_cores", lambda: 1)

    async def ask() -> None:
        tasks = [asyncio.create_task(slow.apredict([text])) for text in ("cat", "dog", "bird")]
        await asyncio.to_thread(slow.engine.entered.acquire, timeout=30)
        for task in tasks[:2]:  # one that is computed, one that waits
            task.cancel()
        await asyncio.wait(tasks[:2])
        assert all(task.cancelled() for task in tasks[:2])
        slow.engine.gate.set()
        assert (await tasks[2])[0].text == "bird"

    asyncio.run(ask())
    assert slow.engine.calls == 2


def test_several_loops_share_a_model(tiny_runtime: Model, tiny_texts: list[str]) -> None:
    expected = [tiny_runtime.predict_one(text) for text in tiny_texts]
    wrong: list[object] = []

    def work() -> None:
        async def gather() -> None:
            answers = await asyncio.gather(*(tiny_runtime.apredict([text]) for text in tiny_texts))
            wrong.extend(one for one, other in zip(answers, expected, strict=True) if one != [other])

        asyncio.run(gather())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong


def test_a_loop_may_end_before_the_answer(slow: Any) -> None:
    async def leave() -> None:
        asyncio.create_task(slow.apredict(["cat"]))  # noqa: RUF006 - asyncio.run cancels it
        await asyncio.to_thread(slow.engine.entered.acquire, timeout=30)

    asyncio.run(leave())
    slow.engine.gate.set()
    assert slow.predict_one("cat").label in slow.labels
