"""Runs in a peer's own environment: ``python worker.py JOB.json``. Answers orders on stdin, one line of JSON each.

The job names a backend, its model, the inputs, the threads, and whether it is going to be timed. Orders:
``{"do": "load"}``, ``{"do": "time", "workload", "first", "calls", "warm_for_s"}`` for that many timed calls beginning
with input number ``first``, ``{"do": "answers"}`` for the logits of all texts, each alone, and ``{"do": "stop"}``.
Between orders it waits on stdin and computes nothing.
Whatever goes wrong is answered as ``{"error": ...}``. What libraries print goes to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import backends
import numpy as np


class Subject:
    """A loaded model with the inputs that it is asked about."""

    def __init__(self, job: dict[str, Any]) -> None:
        inputs = json.loads(Path(job["inputs"]).read_text(encoding="utf-8"))
        start = perf_counter()
        self.run, self.settings = backends.BACKENDS[job["backend"]](Path(job["model"]), job)
        self.load_s = perf_counter() - start
        self.texts = [feed([ids]) for ids in inputs["texts"]]
        self.workloads = {name: [feed(rows) for rows in calls] for name, calls in inputs["workloads"].items()}
        # Whatever is compiled for a shape when it first comes up is compiled here.
        for feeds in self.workloads.values() if job["timed"] else ():
            for item in feeds:
                self.run(item)

    def time(self, workload: str, first: int, calls: int, warm_for_s: float) -> list[float]:
        """Seconds of ``calls`` calls, after untimed ones that bring back the caches: one at least."""
        feeds = self.workloads[workload]
        warm = perf_counter() + warm_for_s
        self.run(feeds[first % len(feeds)])
        while perf_counter() < warm:
            self.run(feeds[first % len(feeds)])
        return [self._timed(feeds[turn % len(feeds)]) for turn in range(first, first + calls)]

    def _timed(self, item: dict[str, Any]) -> float:
        start = perf_counter()
        self.run(item)
        return perf_counter() - start

    def answers(self) -> list[list[float]]:
        """Logits of every text, each asked alone, as an app asks."""
        return [np.asarray(self.run(item), dtype=np.float64).reshape(-1).tolist() for item in self.texts]


def feed(rows: list[list[int]]) -> dict[str, Any]:
    """int64 [batch, sequence]: ids, a full mask, and types of zero."""
    ids = np.asarray(rows, dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def serve(job: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer orders until told to stop, or until nobody is there to give any."""
    subject: Subject | None = None
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "stop":
            return
        try:
            if subject is None:
                subject = Subject(job)
                gc.collect()
                gc.disable()
            if order["do"] == "load":
                answer({"load_s": subject.load_s, "settings": subject.settings})
            elif order["do"] == "time":
                seconds = subject.time(order["workload"], order["first"], order["calls"], order["warm_for_s"])
                answer({"seconds": seconds})
            else:
                answer({"logits": subject.answers()})
        except Exception as error:  # noqa: BLE001 - the one who asked shows it
            answer({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    # Libraries print on stdout; only answers may go there.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)

        def answer(content: dict[str, Any]) -> None:
            answers.write(json.dumps(content) + "\n")
            answers.flush()

        serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), answer)


if __name__ == "__main__":
    main()
