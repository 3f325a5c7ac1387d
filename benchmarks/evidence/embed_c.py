"""Rows about the C host: token ids of nasty texts and of every character, and memory under two checkers.

Its program is built from what ``pocketformer bundle --for c`` writes, as a stranger would build it: with make.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evidence.nasty_texts import nasty_texts
from evidence.table import EvidenceError, Measured, Row
from evidence.workspace import output_of

if TYPE_CHECKING:
    from evidence.embedding import EmbeddingRuns

_PROGRAM = "build/pocketformer-c"
_ARM64_COMPILER = "aarch64-linux-gnu-gcc"
_SANITIZERS = "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
_MACHINE = (
    "import sys; sys.path.insert(0, 'tests'); from emulation.aarch64 import emulated_program; "
    "start, library = emulated_program(sys.argv[1]); print('\\n'.join([*start, str(library)]))"
)
_NASTY = 10_000
_A_LINE = 8  # characters in a text, far fewer than a bundle of short texts would cut off
_CHECKED = 50
_SHOWN = 3
_FOUND = 99
# Where the frames of a finding lie that say nothing of who is to blame: the checker's own functions, and libc's.
_PASSED_OVER = ("valgrind", "/libc.so", "/libm.so")


def program(subject: EmbeddingRuns, *, arm64: bool = False) -> list[str]:
    """How ``pocketformer-c`` is started here, or on an emulated processor; built where it is not yet."""
    if not arm64:
        return [str(_built(subject, "plain", "gcc", "-O2")), "--onnxruntime", str(_library())]
    from evidence.embedding import EMULATED

    argv = [sys.executable, "-c", _MACHINE, EMULATED]
    words = output_of(argv, environment=subject.environment(), folder=subject.repository.root).splitlines()
    binary = _built(subject, "arm64", _ARM64_COMPILER, "-O2")
    return [*words[:-1], str(binary), "--onnxruntime", words[-1]]


def nasty(subject: EmbeddingRuns) -> Measured:
    """How many nasty texts get other ids than ``tokenizers`` gives."""
    texts = nasty_texts(_NASTY, words=subject.questions)
    longest = max(map(len, texts))
    what = (
        f"seeded texts (accents, CJK, emoji, control characters, lone surrogates, up to {longest} characters)"
    )
    return _different(subject, texts, what)


def characters(subject: EmbeddingRuns) -> Measured:
    """How many texts of single characters, alone and inside a word, get other ids."""
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    groups = [points[start : start + _A_LINE] for start in range(0, len(points), _A_LINE)]
    texts = [" ".join(group) for group in groups]
    texts += [" ".join(f"a{point}b" for point in group) for group in groups]
    return _different(
        subject, texts, f"texts with every one of {len(points)} characters, alone and inside a word"
    )


def memory(subject: EmbeddingRuns) -> Measured:
    """What AddressSanitizer, UndefinedBehaviorSanitizer and valgrind find in the host while it verifies and answers."""
    texts = subject.work / "texts-memory.jsonl"
    rows = nasty_texts(4 * _CHECKED, words=subject.questions, seed=1)[4 : _CHECKED + 4]
    texts.write_text("".join(f"{_line(text)}\n" for text in [*subject.questions[:_CHECKED], *rows]))
    key = ["--key", str(subject.public_key)]
    commands = [["verify", str(subject.signed), *key], ["answers", str(subject.signed), str(texts), *key]]
    sanitized = _built(subject, "sanitized", "gcc", _SANITIZERS)
    plain = _built(subject, "debug", "gcc", "-g -O1")
    found: list[str] = []
    others = 0
    for command in commands:
        argv = [str(sanitized), "--onnxruntime", str(_library()), *command]
        found += _sanitizers(subject, argv)
        report = subject.work / f"valgrind-{command[0]}.xml"
        checker = [
            "valgrind",
            "-q",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite,possible",
            "--xml=yes",
        ]
        argv = [*checker, f"--xml-file={report}", str(plain), "--onnxruntime", str(_library()), *command]
        output_of(argv, environment=subject.environment(), folder=subject.work, limit_s=1200.0)
        ours, theirs = _valgrind(report)
        found += ours
        others += theirs
    how = (
        f"verify and answers to {_CHECKED} questions and {_CHECKED} nasty texts with a signed bundle, each under "
        "AddressSanitizer with leaks and UndefinedBehaviorSanitizer, and under valgrind's memcheck with leaks; "
        f"{others} findings of valgrind whose innermost frame lies in onnxruntime or the loader are not counted"
    )
    return Measured(value=float(len(found)), how="; ".join([how, *found[:_SHOWN]]))


def _different(subject: EmbeddingRuns, texts: Sequence[str], what: str) -> Measured:
    here = subject.rows_of("python", "tokens", subject.bundle, texts)
    there = subject.rows_of("c", "tokens", subject.bundle, texts)
    pairs = zip(texts, here, there, strict=True)
    wrong = [text for text, wanted, found in pairs if wanted["input_ids"] != found["input_ids"]]
    how = f"{len(texts)} {what}, against tokenizers, with the demo's tokenizer.json"
    return Measured(
        value=float(len(wrong)), how="; ".join([how, *(ascii(text[:60]) for text in wrong[:_SHOWN])])
    )


def _built(subject: EmbeddingRuns, name: str, compiler: str, flags: str) -> Path:
    """The program, built in a copy of the app's folder that is kept while the code stays the same."""
    app = subject.app("c")

    def make(folder: Path) -> dict[str, Any]:
        shutil.copytree(app, folder / "app", ignore=shutil.ignore_patterns("model"))
        argv = ["make", "-s", "-C", str(folder / "app"), _PROGRAM, f"CC={compiler}", f"CFLAGS={flags}"]
        output_of(argv, environment=subject.environment(), folder=folder)
        return {
            "compiler": output_of([compiler, "--version"], environment=subject.environment(), folder=folder)
        }

    subject.once(f"c-{name}", make)
    return subject.folder / f"c-{name}" / "app" / _PROGRAM


def _library() -> Path:
    """libonnxruntime inside the wheel that is installed."""
    import onnxruntime

    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not found:
        raise EvidenceError("the installed onnxruntime has no libonnxruntime.so")
    return found[0]


def _line(text: str) -> str:
    return json.dumps({"text": text})


def _sanitizers(subject: EmbeddingRuns, argv: list[str]) -> list[str]:
    """The first line of what the sanitizers found; empty when the program ended well."""
    done = subprocess.run(
        argv,
        env={**subject.environment(), "ASAN_OPTIONS": f"exitcode={_FOUND}:detect_leaks=1"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if done.returncode == 0:
        return []
    return [next((line for line in done.stderr.splitlines() if line.strip()), f"exit code {done.returncode}")]


def _valgrind(report: Path) -> tuple[list[str], int]:
    """Findings in the host's own code, and how many there are in others'."""
    ours, theirs = [], 0
    for error in ElementTree.parse(report).iter("error"):
        blamed = next((frame for frame in error.iter("frame") if _tells(frame)), None)
        if blamed is not None and (blamed.findtext("obj") or "").endswith(_PROGRAM):
            ours.append(f"{error.findtext('kind')} in {blamed.findtext('fn')}")
        else:
            theirs += 1
    return ours, theirs


def _tells(frame: ElementTree.Element) -> bool:
    place = frame.findtext("obj") or ""
    return not any(part in place for part in _PASSED_OVER)


ROWS: tuple[Row[EmbeddingRuns], ...] = (
    Row(
        id="c-tokens",
        what="C: nasty texts with other token ids than tokenizers gives",
        comparator="==",
        required=0.0,
        unit="texts",
        measure=nasty,
    ),
    Row(
        id="c-characters",
        what="C: texts of single characters with other token ids than tokenizers gives",
        comparator="==",
        required=0.0,
        unit="texts",
        measure=characters,
    ),
    Row(
        id="c-memory",
        what="C: findings of AddressSanitizer, UndefinedBehaviorSanitizer and valgrind",
        comparator="==",
        required=0.0,
        unit="findings",
        measure=memory,
    ),
)
