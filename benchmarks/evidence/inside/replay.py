"""A host's program in Python: ``python replay.py answers|tokens|verify BUNDLE [TEXTS.jsonl]``.

Answers and tokens are a line of JSON for each text, each in a batch of its own, as the programs of the other hosts do.
Needs what a device has: numpy, onnxruntime, tokenizers.
"""

import json
import sys
from pathlib import Path

import numpy as np

# This checkout's package and no other: an emulated machine hands on no PYTHONPATH.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from pocketformer.runtime.model import load
from pocketformer.runtime.verify import verify


def _answer(model, text):
    logits = model.logits([text])[0].astype(np.float64)
    best = int(logits.argmax())
    return {
        "input_ids": _ids(model, text),
        "logits": logits.tolist(),
        "label": model.labels[best],
        "score": float(1.0 / np.exp(logits - logits[best]).sum()),
    }


def _ids(model, text):
    return model.encode([text])["input_ids"][0].tolist()


if __name__ == "__main__":
    verb, bundle = sys.argv[1], sys.argv[2]
    if verb == "verify":
        report = verify(Path(bundle))
        for check in report.checks:
            print("ok  " if check.ok else "FAIL", check.name, check.detail)
        sys.exit(0 if report.ok else 5)
    model = load(bundle)
    with Path(sys.argv[3]).open(encoding="ascii") as lines:
        for line in lines:
            text = json.loads(line)["text"]
            row = _answer(model, text) if verb == "answers" else {"input_ids": _ids(model, text)}
            print(json.dumps(row))
