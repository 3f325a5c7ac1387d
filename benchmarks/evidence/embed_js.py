"""Rows about JavaScript: token ids of nasty texts in Node and Chromium, what a page brings over the wire.

The programs of both hosts are here too: Node's command line as it is shipped, and a browser driven to do the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evidence.nasty_texts import nasty_texts
from evidence.node_modules import node_modules
from evidence.runs import INSIDE
from evidence.table import EvidenceError, Measured, Row

if TYPE_CHECKING:
    from evidence.embedding import EmbeddingRuns

FUZZED = 10_000
LARGEST_TRANSFER_MB = 6.0
# The engine itself, which all models share; its glue in JavaScript counts as the page's own.
RUNTIME = "/vendor/ort-wasm-simd-threaded.wasm"
_SHOWN = 3


def program(subject: EmbeddingRuns, host: str) -> list[str]:
    """How Node's command line is started, or the browser that answers as a command line does (``chromium``)."""
    if host == "node":
        return ["node", str(_installed(subject, "node") / "pocketformer-cli.mjs")]
    app = _installed(subject, "web")
    return ["node", str(INSIDE / "chromium.mjs"), "--app", str(app), "--modules", str(node_modules())]


def fuzzed_ids(host: str) -> Callable[[EmbeddingRuns], Measured]:
    """How many of the fuzzed texts a host gives other ids than Python."""

    def measure(subject: EmbeddingRuns) -> Measured:
        texts = nasty_texts(FUZZED, words=subject.questions)
        wanted = subject.rows_of("python", "tokens", subject.bundle, texts)
        found = subject.rows_of(host, "tokens", subject.bundle, texts)
        wrong = [index for index, pair in enumerate(zip(wanted, found, strict=True)) if pair[0] != pair[1]]
        longest = max(map(len, texts))
        told = "".join(f"; {texts[index][:40]!a}" for index in wrong[:_SHOWN])
        return Measured(
            value=float(len(wrong)),
            how=f"{len(texts)} seeded texts (evidence/nasty_texts.py) of up to {longest} characters, "
            f"against tokenizers in Python{told}",
        )

    return measure


def transfer(subject: EmbeddingRuns) -> Measured:
    """Megabytes that a first visit of the demo page brings, without the WebAssembly of onnxruntime."""
    sizes: dict[str, int] = json.loads(subject.output([*program(subject, "chromium"), "transfer"]))
    if RUNTIME not in sizes or not any(path.endswith(".onnx") for path in sizes):
        raise EvidenceError(f"the page did not fetch its engine and its model: {sorted(sizes)}")
    without = sum(size for path, size in sizes.items() if path != RUNTIME) / 1e6
    return Measured(
        value=without,
        how=f"{len(sizes) - 1} files, headers included, as Chromium got them from the app's own server with brotli; "
        f"the engine adds {sizes[RUNTIME] / 1e6:.2f} MB",
    )


def _installed(subject: EmbeddingRuns, host: str) -> Path:
    """The app with its packages linked in."""
    app = subject.app(host)
    link = app / "node_modules"
    if not link.is_symlink():
        link.symlink_to(node_modules())
    return app


def _fuzz_row(host: str) -> Row[EmbeddingRuns]:
    return Row(
        id=f"ids-{host}",
        what=f"{host}: fuzzed texts with other token ids than in Python, of {FUZZED}",
        comparator="==",
        required=0.0,
        unit="texts",
        measure=fuzzed_ids(host),
    )


ROWS: tuple[Row[EmbeddingRuns], ...] = (
    _fuzz_row("node"),
    _fuzz_row("chromium"),
    Row(
        id="web-transfer",
        what="demo page with its model, compressed transfer without the WebAssembly of onnxruntime",
        comparator="<",
        required=LARGEST_TRANSFER_MB,
        unit="MB",
        measure=transfer,
    ),
)
