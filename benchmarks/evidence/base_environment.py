"""A fresh environment with the base install, and what several tables measure in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from evidence.kept import Kept
from evidence.table import EvidenceError, Measured
from evidence.workspace import base_interpreter, end_of, output_of, run_logged

INSIDE = Path(__file__).parent / "inside"
_COLD_STARTS = 7
_OVERHEAD_ROUNDS = 3000
_QUESTION = "What is the capital of France ?"


def install_base(source: Path, folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Install the checkout ``source`` and what it depends on, without extras, into ``folder / "venv"``.

    What ``base_install.py`` found there; ``EvidenceError`` when that is more than the base install.
    """
    venv, log = folder / "venv", folder / "log.txt"
    quiet = ["--quiet", "--disable-pip-version-check"]
    for argv in (
        [base_interpreter(), "-m", "venv", str(venv)],
        [str(base_python(folder)), "-m", "pip", "install", *quiet, str(source)],
    ):
        code, _ = run_logged(argv, log=log, environment=environment, folder=folder)
        if code != 0:
            raise EvidenceError(f"the base install ended with exit code {code}: {end_of(log)}")
    argv = [str(base_python(folder)), "-I", str(INSIDE / "base_install.py")]
    found: dict[str, Any] = json.loads(output_of(argv, environment=environment, folder=folder))
    if found["training_libraries"]:
        raise EvidenceError(f"the base install brought {', '.join(found['training_libraries'])}")
    if not Path(found["pocketformer"]).is_relative_to(venv):
        raise EvidenceError(f"the base install runs {found['pocketformer']}, which is not its own")
    return found


def base_python(folder: Path) -> Path:
    """The python of what ``install_base`` made in ``folder``."""
    return folder / "venv" / "bin" / "python"


def inside(kept: Kept, python: Path, program: str, *arguments: str, limit_s: float = 600.0) -> str:
    """What a program of ``evidence/inside`` prints when that python runs it, isolated from this one."""
    argv = [str(python), "-I", str(INSIDE / program), *arguments]
    return output_of(argv, environment=kept.environment(), folder=kept.folder, limit_s=limit_s)


def cold_starts(kept: Kept, python: Path, bundle: Path) -> list[dict[str, Any]]:
    """What ``pocketformer.runtime.coldstart`` prints in fresh processes after one to warm the disk's cache.

    ``process_s`` is added: the whole process, from starting it to its end.
    """
    argv = [str(python), "-I", "-m", "pocketformer.runtime.coldstart", str(bundle), _QUESTION]
    starts = []
    for _ in range(_COLD_STARTS + 1):
        begin = perf_counter()
        printed = kept.output(argv)
        starts.append({**json.loads(printed), "process_s": perf_counter() - begin})
    return starts[1:]


def describe_cold_starts(kept: Kept, python: Path) -> str:
    """Where the figures of ``cold_starts`` come from."""
    found = json.loads(inside(kept, python, "base_install.py"))
    return (
        f"{_COLD_STARTS} fresh processes after one warm-up, `python -m pocketformer.runtime.coldstart` in a fresh "
        f"base install without torch and transformers (onnxruntime {found['onnxruntime']})"
    )


def overhead(kept: Kept, python: Path, bundle: Path, file: Path, column: str) -> Measured:
    """Median time of the runtime's predict over that of the same session with tokenizers around it."""
    arguments = (str(bundle), str(file), column, str(_OVERHEAD_ROUNDS))
    found = json.loads(inside(kept, python, "overhead.py", *arguments))
    if found["disagreeing"]:
        raise EvidenceError(f"the two ways disagree on {found['disagreeing']} questions: not the same work")
    how = (
        f"median {found['runtime_ms']:.4f} ms against {found['bare_ms']:.4f} ms over {found['rounds']} "
        f"interleaved rounds of {found['texts']} test questions, one process, one session, base install"
    )
    return Measured(value=found["runtime_ms"] / found["bare_ms"], how=how)
