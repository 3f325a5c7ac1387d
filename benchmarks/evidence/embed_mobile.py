"""Rows about phones' hosts, as far as they run here: the Android module's Kotlin and JNI on a Java virtual machine.

Android's own classes are stand-ins there, and nothing here is a phone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from evidence.embed_same import compare
from evidence.kotlin_host import KotlinHost, build, build_jni, find_tools, write_units
from evidence.table import Measured, Row
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
        f"{failed} failed; JNI for aarch64 compiled ({arm64.stat().st_size} bytes), not run; no NDK, no Gradle, no phone",
    )


def _built(subject: EmbeddingRuns) -> KotlinHost:
    find_tools()
    app = subject.app("android")
    folder = subject.work / "kotlin"
    folder.mkdir(exist_ok=True)
    return build(app, folder)


def _run(subject: EmbeddingRuns, host: KotlinHost, verb: str, bundle: Path, texts: Path) -> str:
    import onnxruntime

    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    argv = [*host.command(_REPLAY), verb, str(bundle), str(texts), str(library)]
    return output_of(argv, environment=os.environ, folder=subject.work, limit_s=_LIMIT_S)


ROWS: tuple[Row[EmbeddingRuns], ...] = (
    Row(
        id="same-android-jvm",
        what="Android's Kotlin and JNI on a Java virtual machine: golden samples and all test questions not as in Python",
        comparator="==",
        required=0.0,
        unit="answers",
        measure=same_on_the_jvm,
    ),
)
