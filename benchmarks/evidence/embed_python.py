"""Rows about Python as a host: many threads, what the runtime adds, how fast it starts and what it weighs.

All are measured in a fresh environment with the base install of this commit.
"""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from evidence.base_environment import (
    base_python,
    cold_starts,
    describe_cold_starts,
    inside,
    install_base,
    overhead,
)
from evidence.table import EvidenceError, Measured, Row

if TYPE_CHECKING:
    from evidence.embedding import EmbeddingRuns

THREADS = 8
CALLS = 10_000
# A machine that is busy with something else is slow, not stuck.
_LIMIT_S = 1800.0
# What `pip install numpy onnxruntime` brings is not ours to count.
NOT_COUNTED = ("numpy", "onnxruntime")


def threads_answers(subject: EmbeddingRuns) -> Measured:
    """Predictions of eight threads that are not, to the last bit, what one thread gets."""
    found = _threads(subject)
    made = found["threads"] * found["calls"]
    if made != THREADS * CALLS or found["compared"] != made:
        raise EvidenceError(f"{found['compared']} of {made} predictions were compared")
    how = (
        f"{THREADS} threads x {CALLS} predictions on one model over {found['texts']} test questions: token ids, "
        f"label and score against those of one thread, bit for bit; {found['seconds']:.0f} s"
    )
    return Measured(value=float(found["wrong"]), how=how)


def threads_memory(subject: EmbeddingRuns) -> Measured:
    """How far the resident memory rises above where it stood when all threads were warm."""
    found = _threads(subject)
    warm, most = found["rss_warm"], found["rss_most"]
    how = (
        f"resident memory while {THREADS} threads made {CALLS} predictions each: {warm / 1e6:.1f} MB when every one "
        f"of them had answered all {found['texts']} questions once, at most {most / 1e6:.1f} MB in "
        f"{found['samples']} samples afterwards, {found['rss_end'] / 1e6:.1f} MB at the end"
    )
    return Measured(value=most / warm - 1.0, how=how)


def runtime_overhead(subject: EmbeddingRuns) -> Measured:
    """The runtime's predict over the same session with tokenizers around it, as the demo's table has it."""
    return overhead(subject, _base(subject), subject.bundle, _texts(subject), "text")


def cold_start(subject: EmbeddingRuns) -> Measured:
    """A process that starts, imports, loads, answers and ends."""
    python = _base(subject)
    starts = cold_starts(subject, python, subject.bundle)
    parts = ", ".join(
        f"{name[:-2].replace('_', ' ')} {median(start[name] for start in starts):.3f} s"
        for name in ("import_s", "load_s", "first_prediction_s")
    )
    how = (
        f"the whole process, median of {describe_cold_starts(subject, python)}; the largest took "
        f"{max(start['process_s'] for start in starts):.3f} s; medians of its parts: {parts}"
    )
    return Measured(value=median(start["process_s"] for start in starts), how=how)


def install_size(subject: EmbeddingRuns) -> Measured:
    """What the base install puts on the disk beside numpy and onnxruntime, in 10^6 bytes."""
    found = json.loads(inside(subject, _base(subject), "install_size.py", *NOT_COUNTED))
    missing = set(NOT_COUNTED) - set(found["not_counted"])
    if missing:
        raise EvidenceError(f"the base install has no {', '.join(sorted(missing))}")
    largest = sorted(found["packages"].items(), key=lambda item: -item[1])[:5]
    how = (
        "all files in a fresh base install's site-packages without pip and setuptools, which venv brings, and without "
        "what `pip install numpy onnxruntime` brings ("
        + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in found["not_counted"].items())
        + f"); {found['bytecode'] / 1e6:.1f} MB of it are byte code that pip makes; the largest: "
        + ", ".join(f"{name} {size / 1e6:.1f}" for name, size in largest)
    )
    return Measured(value=found["bytes"] / 1e6, how=how)


@functools.lru_cache(maxsize=1)
def _threads(subject: EmbeddingRuns) -> dict[str, Any]:
    """One measurement for the two rows about threads, made anew in every call of the table."""
    subject.say(f"{THREADS} threads x {CALLS} predictions (about two minutes)")
    arguments = [str(subject.bundle), str(_texts(subject)), "text", str(THREADS), str(CALLS)]
    found: dict[str, Any] = json.loads(
        inside(subject, _base(subject), "thread_answers.py", *arguments, limit_s=_LIMIT_S)
    )
    return found


def _base(subject: EmbeddingRuns) -> Path:
    """The python of a fresh environment with this commit's base install and nothing else."""

    def make(folder: Path) -> dict[str, Any]:
        source = subject.repository.clone(folder / "checkout")
        subject.say(f"base: a fresh environment with the base install of {source}")
        return install_base(folder / "checkout", folder, subject.environment())

    subject.once("base", make)
    return base_python(subject.work / "base")


def _texts(subject: EmbeddingRuns) -> Path:
    """The test questions as the file that the programs in ``inside`` read."""
    file = subject.work / "questions.csv"
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text"])
        writer.writerows([text] for text in subject.questions)
    return file


ROWS: tuple[Row[EmbeddingRuns], ...] = (
    Row(
        id="threads-answers",
        what=f"Python: {THREADS} threads x {CALLS} predictions unlike those of one thread",
        comparator="==",
        required=0,
        unit="answers",
        measure=threads_answers,
    ),
    Row(
        id="threads-memory",
        what="Python: growth of memory meanwhile",
        comparator="<=",
        required=0.05,
        unit="fraction",
        measure=threads_memory,
    ),
    Row(
        id="python-overhead",
        what="Python: the runtime's predict over bare onnxruntime + tokenizers",
        comparator="<=",
        required=1.05,
        unit="ratio",
        measure=runtime_overhead,
    ),
    Row(
        id="python-cold-start",
        what="Python: cold start to the first answer, the whole process",
        comparator="<",
        required=0.7,
        unit="s",
        measure=cold_start,
    ),
    Row(
        id="python-install-size",
        what="Python: base install beyond numpy and onnxruntime",
        comparator="<",
        required=60,
        unit="MB",
        measure=install_size,
    ),
)
