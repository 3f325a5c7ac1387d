"""The Android module gives Python's answers: its Kotlin and JNI run on this computer, where Android's classes are
stand-ins. Gradle, the NDK and a phone are not here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pocketformer.export.hosts import SOURCES
from pocketformer.runtime.model import load

if TYPE_CHECKING:
    from hosts.mobile.conftest import Machine

CHECKS = ["manifest", "files", "golden", "load", "tokenizer", "logits", "labels"]
TEXTS = ["", " ", "a\0b", "very " * 40, "\ud83d\ude00 \ud800 cat", "\udc00", "\ud800", "Ünïcode KING 猫 😀"]


@pytest.mark.slow
def test_answers_are_those_of_python(
    machine: Machine, small_bundle: Path, tiny_texts: list[str], tmp_path: Path
) -> None:
    from evidence.kotlin_host import write_units

    texts = [*tiny_texts[:10], *TEXTS]
    write_units(texts, tmp_path / "texts")
    done = machine.run("pocketformer.ReplayKt", "answers", small_bundle, tmp_path / "texts", machine.library)
    assert (done.returncode, done.stderr) == (0, "")
    assert "WARNING" not in done.stdout  # what the virtual machine says of wrong calls
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    model = load(small_bundle)
    assert [row["input_ids"] for row in rows] == [model.encode([t])["input_ids"][0].tolist() for t in texts]
    expected = [model.predict_one(text) for text in texts]
    assert [row["label"] for row in rows] == [answer.label for answer in expected]
    logits = [model.logits([text])[0] for text in texts]
    np.testing.assert_allclose([row["logits"] for row in rows], logits, atol=1e-6)
    np.testing.assert_allclose([row["score"] for row in rows], [a.score for a in expected], atol=1e-6)


@pytest.mark.slow
def test_what_a_phone_would_test_holds_here(machine: Machine, android_app: Path, tmp_path: Path) -> None:
    """The project's own tests: golden samples out of the assets, and the store of copies."""
    done = machine.run(
        "org.junit.runner.JUnitCore",
        "pocketformer.BundleStoreTest",
        "pocketformer.sample.GoldenTest",
        options=(
            f"-Dstand.in.files={tmp_path / 'files'}",
            f"-Dstand.in.assets={android_app / 'app/src/main/assets'}",
        ),
    )
    assert done.returncode == 0, done.stdout
    assert "OK (5 tests)" in done.stdout
    assert len(list((tmp_path / "files/pocketformer/model").iterdir())) == 1


@pytest.mark.slow
def test_a_changed_bundle_is_refused(machine: Machine, small_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    with (bundle / "model.onnx").open("r+b") as graph:
        graph.write(b"\xff")
    done = machine.run("pocketformer.ReplayKt", "verify", bundle, "-", machine.library)
    assert done.returncode == 5
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["ok", "manifest"], ["FAIL", "files"]]
    assert lines[1][2] == "model.onnx has another SHA-256 than the manifest says"
    done = machine.run("pocketformer.ReplayKt", "verify", small_bundle, "-", tmp_path / "no.so")
    assert (done.returncode, done.stdout.split("\t")[0]) == (4, "MISSING")


@pytest.mark.slow
def test_a_signature_is_asked_for(machine: Machine, small_bundle: Path, tmp_path: Path) -> None:
    """The key goes through to the C host; signatures themselves are tested there."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    for argv in (
        [openssl, "genpkey", "-algorithm", "ed25519", "-out", "private.pem"],
        [openssl, "pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"],
    ):
        subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    done = machine.run(
        "pocketformer.ReplayKt", "verify", small_bundle, "-", machine.library, tmp_path / "public.pem"
    )
    assert done.returncode == 5
    assert done.stdout == "FAIL\tsignature\tthe bundle is not signed: it has no manifest.json.sig\n"


def test_jni_is_compiled_for_arm64(android_app: Path, tmp_path: Path) -> None:
    """By GNU's cross compiler in place of the NDK's; the natives of the Kotlin class are there, and nothing else."""
    from evidence.kotlin_host import build_jni

    compiler = "aarch64-linux-gnu-gcc"
    if not all(shutil.which(name) for name in (compiler, "cmake", "javac")):
        pytest.skip("needs cmake, default-jdk-headless and gcc-aarch64-linux-gnu")
    library = build_jni(android_app, tmp_path / "arm64", compiler=compiler)
    assert library.read_bytes()[18] == 183  # ELF's number of AArch64
    told = subprocess.run(
        ["aarch64-linux-gnu-nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout
    kotlin = (SOURCES / "android/pocketformer/src/main/kotlin/pocketformer/NativeHost.kt").read_text()
    natives = {f"Java_pocketformer_NativeHost_{name}" for name in re.findall(r"external fun (\w+)", kotlin)}
    assert {line.split()[-1] for line in told.splitlines()} == natives
    assert len(natives) == 8
