"""One cold start of a Hugging Face classifier in PyTorch eager, measured from inside a fresh process::

    python -m pocketformer.targets.torch_coldstart MODEL_DIR TEXT [THREADS]

prints one line of JSON with the keys of ``pocketformer.runtime.coldstart``, so that the two compare:
``import_s`` covers torch and transformers.
"""

from __future__ import annotations

from time import perf_counter

_START = perf_counter()  # before anything else is imported: imports are part of what is measured

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402


def measure_torch_cold_start(model_dir: str, text: str, threads: int | None, start: float) -> dict[str, Any]:
    """Import, load and predict once; ``start`` is ``perf_counter()`` before the imports."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # the directory is local; nothing may be fetched
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if threads is not None:
        torch.set_num_threads(threads)
    imported = perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(model_dir, local_files_only=True).eval()
    loaded = perf_counter()
    with torch.inference_mode():
        logits = model(**tokenizer(text, truncation=True, return_tensors="pt")).logits
    probabilities = logits.softmax(-1)[0]
    best = int(probabilities.argmax())
    done = perf_counter()

    from pocketformer.runtime.coldstart import peak_memory_bytes

    return {
        "import_s": imported - start,
        "load_s": loaded - imported,
        "first_prediction_s": done - loaded,
        "total_s": done - start,
        "peak_memory_bytes": peak_memory_bytes(),
        "label": model.config.id2label[best],
        "score": float(probabilities[best]),
    }


def main(arguments: list[str]) -> int:
    """Run as a program; returns the exit code."""
    if len(arguments) not in (2, 3):
        sys.stderr.write("usage: python -m pocketformer.targets.torch_coldstart MODEL_DIR TEXT [THREADS]\n")
        return 2
    threads = int(arguments[2]) if len(arguments) == 3 else None
    result = measure_torch_cold_start(arguments[0], arguments[1], threads, _START)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
