"""Runs in the environment under test: ``python thread_answers.py BUNDLE FILE.csv COLUMN THREADS CALLS``.

One thread answers all texts; then so many threads, on the same model, predict CALLS times each, every one from another
text on. Every token id, label and score is held against those of the one thread, bit for bit. Resident memory counts
from when each of the threads has answered all texts once: allocators keep memory for every thread. Prints JSON.
"""

from __future__ import annotations

import csv
import gc
import json
import os
import sys
import threading
from time import perf_counter
from typing import Any

from pocketformer import load

_SAMPLE_EVERY_S = 0.05


def compare(bundle: str, texts: list[str], threads: int, calls: int) -> dict[str, Any]:
    """Differences, and bytes of resident memory: warm, at most afterwards, at the end."""
    model = load(bundle)

    def answer(text: str) -> tuple[bytes, str, float]:
        ids = model.encoder.encode_one(text)["input_ids"].tobytes()
        prediction = model.predict_one(text)
        return ids, prediction.label, prediction.score

    expected = [answer(text) for text in texts]
    wrong = [0] * threads
    compared = [0] * threads
    warm, begin = threading.Barrier(threads + 1), threading.Barrier(threads + 1)

    def work(number: int) -> None:
        first = number * len(texts) // threads
        for index in range(len(texts)):
            answer(texts[(first + index) % len(texts)])
        warm.wait()
        begin.wait()
        for turn in range(calls):
            index = (first + turn) % len(texts)
            wrong[number] += answer(texts[index]) != expected[index]
            compared[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    warm.wait()
    gc.collect()
    rss_warm = resident_bytes()
    start = perf_counter()
    begin.wait()
    samples = []
    for worker in workers:
        while worker.is_alive():
            worker.join(_SAMPLE_EVERY_S)
            samples.append(resident_bytes())
    seconds = perf_counter() - start
    samples.append(resident_bytes())
    gc.collect()
    return {
        "threads": threads,
        "calls": calls,
        "texts": len(texts),
        "compared": sum(compared),
        "wrong": sum(wrong),
        "seconds": seconds,
        "rss_warm": rss_warm,
        "rss_most": max(samples),
        "rss_end": resident_bytes(),
        "samples": len(samples),
    }


def resident_bytes() -> int:
    """Resident memory of this process now (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as handle:  # noqa: PTH123
        return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    bundle_path, file, column, thread_count, call_count = sys.argv[1:]
    with open(file, encoding="utf-8", newline="") as handle:  # noqa: PTH123
        questions = [row[column] for row in csv.DictReader(handle)]
    print(json.dumps(compare(bundle_path, questions, int(thread_count), int(call_count))))
