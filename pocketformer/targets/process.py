"""Measures in fresh processes what only a fresh process can tell: cold start and peak memory.

Fresh means a new interpreter with nothing loaded. The files may still be in the operating system's cache, as
they are on a device that has started the app before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from pocketformer.runtime.errors import InputError, PocketformerError

KEYS = ("import_s", "load_s", "first_prediction_s", "total_s", "peak_memory_bytes")
_TAIL_LINES = 15
# Else `-m` puts the working directory first on the path, where a user's own `tokenizers.py` would be taken.
_ISOLATED = ("-P",)


def measure_process(
    argv: Sequence[str], *, timeout_s: float = 300.0, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a program that ends its output with one line of JSON (an object), and return that object.

    ``process_s`` is added: seconds from starting the process to its end. ``environment`` replaces the
    inherited one. ``PocketformerError`` with the end of its stderr when it fails, prints something else or
    takes longer than ``timeout_s`` (it is killed then).
    """
    program = Path(argv[0]).name
    start = perf_counter()
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=None if environment is None else dict(environment),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PocketformerError(
            f"{program} did not end within {timeout_s:g} s and was stopped{_tail(error.stderr)}",
            hint="The machine may be busy; try again with more time.",
        ) from error
    except OSError as error:
        raise PocketformerError(f"{argv[0]} cannot be run: {error.strerror or error}") from error
    elapsed = perf_counter() - start
    if done.returncode != 0:
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise PocketformerError(f"a measuring process ended with {how}{_tail(done.stderr)}")
    lines = done.stdout.decode("utf-8", errors="replace").strip().splitlines()
    try:
        result = json.loads(lines[-1]) if lines else None
    except ValueError:
        result = None
    if not isinstance(result, dict):
        shown = repr(lines[-1][:200]) if lines else "nothing"
        raise PocketformerError(
            f"a measuring process printed {shown}, not one line of JSON{_tail(done.stderr)}"
        )
    return {**result, "process_s": elapsed}


def cold_start_bundle(
    bundle: Path, text: str, repeats: int = 3, *, timeout_s: float = 120.0, python: str = sys.executable
) -> dict[str, float]:
    """Medians over ``repeats`` fresh processes that load a bundle and predict one text.

    Keys: ``import_s``, ``load_s``, ``first_prediction_s``, ``total_s`` (their sum), ``process_s`` (with the
    interpreter's own start and end) in seconds, ``peak_memory_bytes``; what the system does not tell is left
    out. ``python`` may be the interpreter of another environment that has pocketformer installed, for
    instance one with the base install only.
    """
    argv = [python, *_ISOLATED, "-m", "pocketformer.runtime.coldstart", str(bundle), text]
    return _medians(argv, repeats, timeout_s)


def cold_start_torch(
    model_dir: Path,
    text: str,
    repeats: int = 3,
    *,
    threads: int | None = None,
    timeout_s: float = 300.0,
) -> dict[str, float]:
    """The same for a Hugging Face directory in PyTorch eager; ``threads`` None leaves torch its default."""
    argv = [sys.executable, *_ISOLATED, "-m", "pocketformer.targets.torch_coldstart", str(model_dir), text]
    if threads is not None:
        argv.append(str(threads))
    return _medians(argv, repeats, timeout_s)


def _environment(python: str) -> dict[str, str] | None:
    """Let the same interpreter find a package that lies in a checkout without being installed."""
    home = Path(__file__).parents[2]
    if python != sys.executable or home.name in ("site-packages", "dist-packages"):
        return None
    paths = [str(home), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _medians(argv: Sequence[str], repeats: int, timeout_s: float) -> dict[str, float]:
    if repeats < 1:
        raise InputError(f"repeats is {repeats}", hint="Measure at least once.")
    environment = _environment(argv[0])
    results = [measure_process(argv, timeout_s=timeout_s, environment=environment) for _ in range(repeats)]
    missing = [key for key in KEYS if key != "peak_memory_bytes" and key not in results[0]]
    if missing:
        raise PocketformerError(f"a measuring process did not tell {', '.join(missing)}")
    return {
        key: float(median(result[key] for result in results))
        for key in (*KEYS, "process_s")
        if all(result.get(key) is not None for result in results)
    }


def _tail(stderr: bytes | None) -> str:
    lines = (stderr or b"").decode("utf-8", errors="replace").strip().splitlines()
    return ":\n" + "\n".join(lines[-_TAIL_LINES:]) if lines else ""
