"""Rows about phones' hosts, as far as they run here: the Android module's Kotlin and JNI on a Java virtual machine, the
iOS package's Swift on Linux.

Android's own classes are stand-ins there, SwiftUI is left out, and nothing here is a phone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from evidence.embed_same import compare
from evidence.kotlin_host import TESTS, KotlinHost, build, build_jni, find_tools, write_units
from evidence.swift_machine import run, swift_root
from evidence.table import EvidenceError, Measured, Row
from evidence.workspace import output_of
from pocketformer.runtime.manifest import read_manifest

if TYPE_CHECKING:
    from evidence.embedding import EmbeddingRuns

_REPLAY = "pocketformer.ReplayKt"
_LIMIT_S = 900.0


def same_on_the_jvm(subject: EmbeddingRuns) -> Measured:
    """How many answers through Kotlin and JNI are not Python's, failed golden samples among them."""
    host, bundle = _built(subject), subject.bundle
    texts = subject.work / "texts-jvm"
    write_units(subject.questions, texts)
    printed = _run(subject, host, "answers", bundle, texts)
    rows = [json.loads(line) for line in printed.splitlines()]
    reference = subject.rows_of("python", "answers", bundle, subject.questions)
    found = compare(reference, rows, read_manifest(bundle).tolerance)
    checks = [line.split("\t") for line in _run(subject, host, "verify", bundle, Path("-")).splitlines()]
    failed = sum(state != "ok" for state, _, _ in checks)
    arm64 = build_jni(host.app, host.natives.parent / "natives-arm64", compiler="aarch64-linux-gnu-gcc")
    return Measured(
        value=float(found.wrong + failed),
        how=f"Kotlin by kotlinc, JNI by gcc, on OpenJDK: {found.ids} ids, {found.logits} logits, {found.labels} labels "
        f"wrong of {found.texts}, logits differ by at most {found.largest:.2g}; {len(checks)} checks of verify, "
        f"{failed} failed; JNI for aarch64 compiled ({arm64.stat().st_size} bytes), not run; "
        "no NDK, no Gradle, no phone",
    )


def same_in_swift(subject: EmbeddingRuns) -> Measured:
    """How many answers through the Swift package are not Python's, failed tests of its own among them."""
    root, bundle = swift_root(), subject.bundle
    folders = {
        "/app": _swift_app(subject),
        "/onnxruntime": subject.work / "swift-onnxruntime",
        "/model": bundle,
    }
    library = ["-Xlinker", "-L/onnxruntime", "-Xlinker", "-rpath", "-Xlinker", "/onnxruntime"]
    tested = run(root, ["swift-test", *library], folders=folders, within="/app")
    tests = re.search(r"Executed (\d+) tests, with (\d+) failures", tested)
    if tests is None:
        raise EvidenceError(f"the Swift package ran no test: {tested[-300:]}")
    c = [
        "clang",
        "-std=c11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-c",
        "Sources/CPocketformer/pocketformer.c",
    ]
    linked = ["clang", "-O2", "-c", "Sources/CPocketformer/linked_onnxruntime.c"]
    swift = [
        "swiftc",
        "-O",
        "-I",
        "Sources/CPocketformer",
        "Sources/Pocketformer/PocketformerModel.swift",
        "main.swift",
    ]
    swift += ["pocketformer.o", "linked_onnxruntime.o", "-L/onnxruntime", "-lonnxruntime", *library[2:]]
    screen = ["swiftc", "-parse", "-parse-as-library", "Sample/SampleApp.swift"]
    for argv in (screen, c, linked, [*swift, "-o", "answers"]):
        run(root, argv, folders=folders, within="/app")
    printed = run(root, ["./answers", "/model", "questions.jsonl"], folders=folders, within="/app")
    rows = [json.loads(line) for line in printed.splitlines()]
    reference = subject.rows_of("python", "answers", bundle, subject.questions)
    found = compare(reference, rows, read_manifest(bundle).tolerance)
    version = run(root, ["swiftc", "--version"], folders={}).split("(")[0].strip()
    return Measured(
        value=float(found.wrong + int(tests[2])),
        how=f"{version} on Linux x86-64: {tests[1]} XCTests (golden samples among them), {tests[2]} failed; "
        f"{found.ids} ids, {found.logits} logits, {found.labels} labels wrong of {found.texts}, logits differ by at "
        f"most {found.largest:.2g}; the SwiftUI screen was only parsed; no Xcode, no iPhone",
    )


def _swift_app(subject: EmbeddingRuns) -> Path:
    """The iOS package with the program that answers questions; and onnxruntime under the names that linkers know."""
    app, libraries = subject.work / "swift", subject.work / "swift-onnxruntime"
    if not app.is_dir():
        shutil.copytree(subject.app("ios"), app)
    shutil.copy(TESTS / "swift/main.swift", app)
    questions = "".join(json.dumps({"text": text}) + "\n" for text in subject.questions)
    (app / "questions.jsonl").write_text(questions, encoding="ascii")
    libraries.mkdir(exist_ok=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        shutil.copy(_onnxruntime(), libraries / name)
    return app


def _onnxruntime() -> Path:
    import onnxruntime

    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    return library


def _built(subject: EmbeddingRuns) -> KotlinHost:
    find_tools()
    app = subject.app("android")
    folder = subject.work / "kotlin"
    folder.mkdir(exist_ok=True)
    return build(app, folder)


def _run(subject: EmbeddingRuns, host: KotlinHost, verb: str, bundle: Path, texts: Path) -> str:
    argv = [*host.command(_REPLAY), verb, str(bundle), str(texts), str(_onnxruntime())]
    return output_of(argv, environment=os.environ, folder=subject.work, limit_s=_LIMIT_S)


ROWS: tuple[Row[EmbeddingRuns], ...] = (
    Row(
        id="same-android-jvm",
        what="Android's Kotlin and JNI on a JVM: golden samples and all test questions not as in Python",
        comparator="==",
        required=0.0,
        unit="answers",
        measure=same_on_the_jvm,
    ),
    Row(
        id="same-swift",
        what="iOS's Swift package on Linux: its own tests failed, and all test questions not as in Python",
        comparator="==",
        required=0.0,
        unit="answers",
        measure=same_in_swift,
    ),
)
