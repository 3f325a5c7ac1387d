"""Runs in the environment under test: ``python overhead.py BUNDLE FILE.csv COLUMN ROUNDS``.

Times the runtime's ``predict`` against the least that an app must write itself on the same bundle, with the very
same onnxruntime session: tokenize, make the arrays, run, take the best label. A round times both on one text,
who goes first changes from round to round, and every text comes up in both orders. Prints one line of JSON.
"""

from __future__ import annotations

import csv
import gc
import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from tokenizers import Tokenizer

from pocketformer import load


def compare(bundle: str, texts: list[str], rounds: int) -> dict[str, float]:
    """Medians in ms of both, and how many rounds and texts they stand on."""
    model = load(bundle)
    preprocessing = model.manifest.preprocessing
    tokenizer = Tokenizer.from_file(str(Path(bundle) / preprocessing.tokenizer_file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(preprocessing.max_length)
    session = model.engine.session
    names = {item.name for item in session.get_inputs()}
    labels = list(model.labels)

    def bare(text: str) -> str:
        encoded = tokenizer.encode(text)
        feeds = {"input_ids": np.array([encoded.ids], dtype=np.int64)}
        if "attention_mask" in names:
            feeds["attention_mask"] = np.array([encoded.attention_mask], dtype=np.int64)
        if "token_type_ids" in names:
            feeds["token_type_ids"] = np.array([encoded.type_ids], dtype=np.int64)
        return labels[int(session.run(None, feeds)[0][0].argmax())]

    def runtime(text: str) -> str:
        return model.predict([text])[0].label

    calls = (bare, runtime)
    disagreeing = sum(bare(text) != runtime(text) for text in texts)  # also the warm-up
    samples: dict[object, list[float]] = {call: [] for call in calls}
    gc.collect()
    gc.disable()
    for turn in range(rounds):
        text = texts[(turn // 2) % len(texts)]
        for call in calls if turn % 2 == 0 else calls[::-1]:
            start = perf_counter()
            call(text)
            samples[call].append(perf_counter() - start)
    gc.enable()
    return {
        "runtime_ms": median(samples[runtime]) * 1000,
        "bare_ms": median(samples[bare]) * 1000,
        "rounds": rounds,
        "texts": min(len(texts), (rounds + 1) // 2),
        "disagreeing": disagreeing,
    }


if __name__ == "__main__":
    bundle_path, file, column, count = sys.argv[1:]
    with open(file, encoding="utf-8", newline="") as handle:  # noqa: PTH123
        questions = [row[column] for row in csv.DictReader(handle)]
    print(json.dumps(compare(bundle_path, questions, int(count))))
