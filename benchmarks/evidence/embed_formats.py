"""Rows about other forms of the demo's model: onnxruntime's own format, LiteRT, and text in and answer out.

LiteRT's converter is installed into an environment of its own (about 1.2 GB beside what is here), which is kept.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evidence.embed_same import Comparison, compare
from evidence.runs import INSIDE
from evidence.table import EvidenceError, Measured, Row
from evidence.workspace import base_interpreter, output_of

if TYPE_CHECKING:
    from evidence.embedding import EmbeddingRuns

LITERT = ("litert-torch==0.10.0", "ai-edge-litert==2.3.0", "ai-edge-quantizer==0.10.0")
ORT_TOLERANCE, FLOAT_TOLERANCE = 1e-4, 1e-3
SAME_LABELS = 0.97
_ROUNDS = 20
_LIMIT_S = 3600.0


def ort_answers(subject: EmbeddingRuns) -> Measured:
    """How many answers of ``model.ort`` are not those of ``model.onnx``."""
    bundle = _ort_bundle(subject)
    reference = subject.rows_of("python", "answers", subject.bundle, subject.questions)
    found = compare(reference, subject.rows_of("python", "answers", bundle, subject.questions), ORT_TOLERANCE)
    code = subject.verify_code("python", bundle)
    return Measured(
        value=float(found.wrong + (code != 0)), how=f"{_in_words(found)}, verify ends with {code}"
    )


def ort_opening(subject: EmbeddingRuns) -> Measured:
    """How many times as long onnxruntime takes to open the ONNX file."""
    graphs = subject.bundle / "model.onnx", _ort_bundle(subject) / "model.ort"
    argv = [sys.executable, str(INSIDE / "opening.py"), str(_ROUNDS), *map(str, graphs)]
    before, after = (statistics.median(seconds) for seconds in json.loads(_output(subject, argv)))
    sizes = [graph.stat().st_size for graph in graphs]
    how = (
        f"{before * 1e3:.1f} ms against {after * 1e3:.1f} ms, medians of {_ROUNDS} by turns, one thread; the .ort file "
        f"({sizes[1] / 1e6:.2f} MB) has {sizes[1] / sizes[0]:.2f} times as large as the ONNX file, which is packed"
    )
    return Measured(value=before / after, how=how)


def litert_float(subject: EmbeddingRuns) -> Measured:
    """How many answers of the float32 LiteRT bundle are not those of ONNX."""
    found, how = _litert(subject, "fp32", FLOAT_TOLERANCE)
    return Measured(value=float(found.wrong), how=how)


def litert_int8(subject: EmbeddingRuns) -> Measured:
    """The share of questions whose label the int8 LiteRT bundle keeps."""
    reference, answers, how = _litert_answers(subject, "int8")
    same = sum(a["label"] == b["label"] for a, b in zip(reference, answers, strict=True))
    return Measured(value=same / len(reference), how=f"{same} of {len(reference)}; {how}")


def text_graph(subject: EmbeddingRuns) -> Measured:
    """How many answers of the graph that takes text are not the bundle's; one more if it is written for any text."""
    folder = subject.work / "text-graph"
    folder.mkdir(exist_ok=True)
    graph, refused = folder / "answers.onnx", folder / "any.onnx"
    questions = subject.questions
    command = [sys.executable, "-m", "pocketformer", "export", str(subject.bundle), "--format", "text-graph"]
    done = subprocess.run(
        [*command, "-o", str(refused)], env=subject.environment(), capture_output=True, text=True, check=False
    )
    wrong = int(done.returncode != 5 or refused.exists())
    letters = "".join(sorted({re.escape(c) for text in questions for c in text}))
    longest = max(map(len, questions))
    domain = ["--characters", letters, "--longest", str(longest), "--test", str(subject.inputs.test)]
    _output(subject, [*command, *domain, "--force", "-o", str(graph)])
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in questions), encoding="ascii")
    printed = _output(subject, [sys.executable, str(INSIDE / "text_graph.py"), str(graph), str(texts)])
    answers = [json.loads(line) for line in printed.splitlines()]
    reference = subject.rows_of("python", "answers", subject.bundle, questions)
    found = compare(reference, answers, ORT_TOLERANCE)
    outside = sum(not answer["in_domain"] for answer in answers)
    first = next((line for line in done.stderr.splitlines() if line.startswith("Error")), "nothing said")
    how = (
        f"for any text it ends with {done.returncode}: {first}; for the questions' own characters, at most {longest}, "
        f"it is written: {_in_words(found)}, {outside} told to lie outside"
    )
    return Measured(value=float(wrong + found.wrong + outside), how=how)


def _ort_bundle(subject: EmbeddingRuns) -> Path:
    def make(folder: Path) -> dict[str, Any]:
        argv = [sys.executable, "-m", "pocketformer", "export", str(subject.bundle), "--format", "ort"]
        _output(subject, [*argv, "-o", str(folder / "bundle")])
        return {}

    subject.once("ort", make)
    return subject.folder / "ort" / "bundle"


def _litert(subject: EmbeddingRuns, precision: str, tolerance: float) -> tuple[Comparison, str]:
    reference, answers, how = _litert_answers(subject, precision)
    found = compare(reference, answers, tolerance)
    return found, f"{_in_words(found)}; {how}"


def _litert_answers(
    subject: EmbeddingRuns, precision: str
) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]], str]:
    """Answers of the fp32 ONNX bundle and of LiteRT's, and in words how the latter came about."""
    bundle, python = _litert_bundle(subject, precision), str(_litert_python(subject))
    program = str(INSIDE / "replay.py")
    texts = subject.work / "texts-litert.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in subject.questions), encoding="ascii"
    )
    _output(subject, [python, program, "verify", str(bundle)])
    printed = _output(subject, [python, program, "answers", str(bundle), str(texts)])
    answers = [json.loads(line) for line in printed.splitlines()]
    reference = subject.rows_of("python", "answers", subject.bundles["fp32"], subject.questions)
    if len(answers) != len(reference):
        raise EvidenceError(f"LiteRT gave {len(answers)} answers for {len(reference)} questions")
    size = (bundle / "model.tflite").stat().st_size / 1e6
    return (
        reference,
        answers,
        f"{', '.join(LITERT)}; {size:.1f} MB, verify holds; on this processor, not on a phone",
    )


def _litert_bundle(subject: EmbeddingRuns, precision: str) -> Path:
    name = f"litert-{precision}"

    def make(folder: Path) -> dict[str, Any]:
        subject.say(f"{name}: converting, some minutes")
        argv = [str(_litert_python(subject)), "-m", "pocketformer", "export", str(subject.demo_run())]
        data = ["--train", str(subject.inputs.train), "--test", str(subject.inputs.test)]
        options = ["--format", "litert", "--precision", precision, *data]
        _output(subject, [*argv, *options, "-o", str(folder / "run")])
        return {}

    subject.once(name, make)
    return subject.folder / name / "run" / "bundles" / "litert"


def _litert_python(subject: EmbeddingRuns) -> Path:
    """The interpreter of an environment that has LiteRT's converter beside everything that is installed here."""

    def make(folder: Path) -> dict[str, Any]:
        subject.say("litert: installing its converter, some minutes")
        _output(subject, [base_interpreter(), "-m", "venv", str(folder / "venv")])
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        # Before its own, where what LiteRT pins is older than what is measured elsewhere.
        here = sysconfig.get_path("purelib")
        (packages / "here.pth").write_text(f"import sys; sys.path.insert(-1, {here!r})\n", encoding="utf-8")
        pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
        _output(subject, [*pip, "--disable-pip-version-check", *LITERT])
        return {}

    subject.once("litert", make)
    return subject.folder / "litert" / "venv" / "bin" / "python"


def _output(subject: EmbeddingRuns, argv: list[str]) -> str:
    # LiteRT's environment sees the packages of this one, and not that this checkout is installed in it.
    environment = subject.environment() | {"PYTHONPATH": str(subject.repository.root)}
    return output_of(argv, environment=environment, folder=subject.folder, limit_s=_LIMIT_S)


def _in_words(found: Comparison) -> str:
    return (
        f"{found.ids} ids, {found.logits} logits, {found.labels} labels wrong of {found.texts}, logits differ by at "
        f"most {found.largest:.2g}"
    )


ROWS: tuple[Row[EmbeddingRuns], ...] = (
    Row(
        id="ort-same",
        what="the demo's bundle as .ort: test questions not answered as by the ONNX file, and verify",
        comparator="==",
        required=0.0,
        unit="answers",
        measure=ort_answers,
    ),
    Row(
        id="ort-opening",
        what="time to open the ONNX file over that to open the .ort file",
        comparator=">=",
        required=1.0,
        unit="x",
        measure=ort_opening,
    ),
    Row(
        id="litert-fp32",
        what="the demo's model in LiteRT, float32: test questions not answered as by ONNX within 0.001",
        comparator="==",
        required=0.0,
        unit="answers",
        measure=litert_float,
    ),
    Row(
        id="litert-int8",
        what="the demo's model in LiteRT, int8: test questions that keep the label of fp32 ONNX",
        comparator=">=",
        required=SAME_LABELS,
        unit="share",
        measure=litert_int8,
    ),
    Row(
        id="text-graph",
        what="text in, answer out: refused for any text; differences on the test questions for their own characters",
        comparator="==",
        required=0.0,
        unit="answers",
        measure=text_graph,
    ),
)
