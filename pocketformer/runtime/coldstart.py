"""One cold start, measured from inside a fresh process::

    python -m pocketformer.runtime.coldstart BUNDLE TEXT

prints one line of JSON: ``import_s`` (numpy, onnxruntime, tokenizers and this runtime), ``load_s``,
``first_prediction_s``, ``total_s`` (their sum; the interpreter's own start comes before and is not in
it), ``peak_memory_bytes`` (of the whole process, null where the system does not tell) and the
``label`` and ``score`` of the answer.
"""

from __future__ import annotations

from time import perf_counter

_START = perf_counter()  # before anything else is imported: imports are part of what is measured

import sys  # noqa: E402
from typing import Any, Optional  # noqa: E402


def measure_cold_start(bundle: str, text: str, start: float) -> dict[str, Any]:
    """Import, load and predict once; ``start`` is ``perf_counter()`` before the imports."""
    from pocketformer.runtime.model import load

    imported = perf_counter()
    model = load(bundle)
    loaded = perf_counter()
    prediction = model.predict_one(text)
    done = perf_counter()
    return {
        "import_s": imported - start,
        "load_s": loaded - imported,
        "first_prediction_s": done - loaded,
        "total_s": done - start,
        "peak_memory_bytes": peak_memory_bytes(),
        "label": prediction.label,
        "score": prediction.score,
    }


def peak_memory_bytes() -> Optional[int]:
    """The largest resident memory that this process has had so far, or None where that is not known.

    On Linux this is VmHWM and not ``ru_maxrss``: the latter survives ``exec``, so that the child of a
    large process reports its parent's size as its own.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # no /proc: not Linux
    try:
        import resource
    except ImportError:
        return None  # Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(arguments: list[str]) -> int:
    """Run as a program; returns the exit code."""
    from pocketformer.runtime.errors import PocketformerError

    if len(arguments) != 2:
        sys.stderr.write("usage: python -m pocketformer.runtime.coldstart BUNDLE TEXT\n")
        return 2
    try:
        result = measure_cold_start(arguments[0], arguments[1], _START)
    except PocketformerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    import json

    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
