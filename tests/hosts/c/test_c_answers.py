"""The C host gives the answers of Python's runtime, on x86-64 and on emulated ARM64, however it was built."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hosts.c.building import SANITIZED, C, Program, compile_c, tool

from pocketformer.export.hosts import host_by_name, write_app
from pocketformer.runtime.model import load
from pocketformer.runtime.verify import verify

CHECKS = ["manifest", "files", "golden", "load", "tokenizer", "logits", "labels"]


def assert_same(program: Program, bundle: Path, texts: list[str], folder: Path, *, atol: float) -> None:
    model = load(bundle)
    rows = program.rows("answers", bundle, texts, folder)
    assert [row["input_ids"] for row in rows] == [model.encode([t])["input_ids"][0].tolist() for t in texts]
    expected = [model.predict_one(text) for text in texts]
    assert [row["label"] for row in rows] == [answer.label for answer in expected]
    logits = [model.logits([text])[0] for text in texts]
    np.testing.assert_allclose([row["logits"] for row in rows], logits, atol=atol)
    np.testing.assert_allclose([row["score"] for row in rows], [a.score for a in expected], atol=atol)


def test_checks_are_those_of_python(program: Program, small_bundle: Path) -> None:
    here = {check.name: check.detail for check in verify(small_bundle).checks if check.name in CHECKS}
    there = program.checks(small_bundle)
    assert list(there) == CHECKS
    for name in ("manifest", "files", "golden", "tokenizer", "labels"):
        assert there[name] == here[name]
    lines = program.run("verify", small_bundle).stdout.splitlines()
    assert lines[4] == "ok    tokenizer   4 of 4 texts give the same ids"


def test_answers_are_those_of_python(
    program: Program, small_bundle: Path, tiny_texts: list[str], tmp_path: Path
) -> None:
    texts = [*tiny_texts, "", " ", "a\0b", "very " * 40, "\ud83d\ude00 \ud800 cat", "Ünïcode KING"]
    assert_same(program, small_bundle, texts, tmp_path, atol=1e-6)


def test_under_sanitizers(
    sanitized: Program, small_bundle: Path, tiny_texts: list[str], tmp_path: Path
) -> None:
    assert list(sanitized.checks(small_bundle)) == CHECKS
    assert_same(sanitized, small_bundle, tiny_texts[:8], tmp_path, atol=1e-6)


def test_on_arm64(arm64: Program, small_bundle: Path, tiny_texts: list[str], tmp_path: Path) -> None:
    """The emulated processor runs what was compiled for it; how long it takes says nothing."""
    assert list(arm64.checks(small_bundle)) == CHECKS
    assert_same(arm64, small_bundle, tiny_texts[:5], tmp_path, atol=1e-5)


def test_a_model_serves_several_threads(
    small_bundle: Path, tiny_texts: list[str], onnxruntime_library: Path, tmp_path: Path
) -> None:
    """Every thread gets the answers that one thread gets, under AddressSanitizer."""
    several = compile_c(Path(__file__).with_name("several_threads.c"), tmp_path / "several", *SANITIZED)
    argv = [several, small_bundle, onnxruntime_library, *tiny_texts[:6]]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1200 answers, 0 differ\n", "")


def test_the_app_that_is_written_builds_itself(
    small_bundle: Path, onnxruntime_library: Path, tmp_path: Path
) -> None:
    """One header and one file, by plain make; then the bundle inside it is replayed."""
    tool("gcc")
    app = write_app(host_by_name("c"), small_bundle, tmp_path / "app")
    assert sorted(path.name for path in app.iterdir() if path.suffix in (".c", ".h")) == [
        "example.c",
        "pocketformer-c.c",
        "pocketformer.c",
        "pocketformer.h",
    ]
    assert not (app / "src").exists()
    argv = [tool("make"), "-s", "all", "check", "CC=gcc", "CFLAGS=-O0"]
    environment = {"PATH": "/usr/bin:/bin", "POCKETFORMER_ONNXRUNTIME": str(onnxruntime_library)}
    done = subprocess.run(argv, cwd=app, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nok ") == len(CHECKS) - 1
    text = "who is the king"
    done = subprocess.run(
        [app / "build/example", "model", text],
        cwd=app,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    answer = load(small_bundle).predict_one(text)
    assert done.stdout == f"{answer.label} {answer.score:.3f}\n"


def test_cmake_builds_it(small_bundle: Path, onnxruntime_library: Path, tmp_path: Path) -> None:
    cmake = tool("cmake")
    for argv in (
        [cmake, "-S", C, "-B", tmp_path, "-DCMAKE_C_COMPILER=gcc", "-DCMAKE_C_FLAGS=-O0"],
        [cmake, "--build", tmp_path, "--target", "example"],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
    argv = [tmp_path / "example", small_bundle, "who"]
    environment = {"POCKETFORMER_ONNXRUNTIME": str(onnxruntime_library)}
    assert subprocess.run(argv, env=environment, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["verify"], 2, "Usage"),
        (["verify", "/nowhere"], 2, "no bundle at /nowhere"),
        (["answers", "BUNDLE", "/nowhere"], 2, "cannot be read"),
        (["verify", "BUNDLE", "--onnxruntime", "/nowhere.so"], 4, "onnxruntime cannot be opened"),
        (["verify", "BUNDLE", "--onnxruntime", "libm.so.6"], 4, "no onnxruntime"),
    ],
)
def test_what_is_missing_is_told(
    program: Program, small_bundle: Path, arguments: list[str], code: int, told: str
) -> None:
    done = program.run(*[str(small_bundle) if word == "BUNDLE" else word for word in arguments])
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
