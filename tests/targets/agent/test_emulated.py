"""The whole way to boards that nobody has at hand: real SSH to Python on an emulated ARM64 processor.

What runs there is what would run on the board: Debian's Python, onnxruntime's and tokenizers' aarch64 wheels. How long
it takes says nothing of the board, and the board's /sys, its sensors and its memory are not there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.runtime.manifest import SessionSettings
from pocketformer.runtime.model import Model, load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def int8_bundle(tiny_bundle: Path, tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with its product in int8; 7-bit weights, whose products are exact on every processor."""
    from pocketformer.compress.quantize.config import StaticConfig
    from pocketformer.compress.quantize.onnxruntime_static import quantize_static
    from pocketformer.export.bundle import write_bundle

    folder = tmp_path_factory.mktemp("int8")
    model = load(tiny_bundle)
    feeds = [model.encode([text]) for text in tiny_texts[:16]]
    result = quantize_static(
        tiny_bundle / "model.onnx", folder / "model.onnx", StaticConfig(reduce_range=True), feeds
    )
    assert result.metrics["quantized_products"] == 1
    return write_bundle(
        folder / "bundle",
        graph=result.output,
        tokenizer_json=tiny_bundle / "tokenizer.json",
        labels=model.labels,
        max_length=16,
        pad_id=0,
        golden_texts=tiny_texts[:5],
        precision="int8-qdq",
        target="cpu",
        session=SessionSettings(intra_op_threads=1, spinning=False),
        provenance={"model": "tiny"},
        name="tiny-int8",
    ).output


def test_a_board_with_dot_products(
    loopback: Any, emulated_python: Callable[[str], Path], int8_bundle: Path, tiny_texts: list[str]
) -> None:
    loopback.python = str(emulated_python("cortex-a76"))
    texts = tiny_texts[:12]
    with loopback.device() as device:
        facts = device.probe()
        assert (facts["architecture"], facts["emulator"]) == ("aarch64", "qemu-aarch64-static")
        assert facts["model"] == "ARM implementer 0x41 part 0xd0b"
        assert facts["flags"]["dotprod"]
        assert not facts["flags"]["i8mm"]
        assert facts["u8s8_saturates"] is False
        assert all(facts["packages"].values())
        device.push(int8_bundle)
        assert {check["name"] for check in device.verify()["checks"]} >= {
            "files",
            "tokenizer",
            "logits",
            "labels",
        }
        rows = device.predict(texts)
        timing = device.measure(texts[:2], rounds=1, time_limit_s=1.0)
    here = load(int8_bundle)
    assert [row["label"] for row in rows] == [answer.label for answer in here.predict(texts)]
    answers = np.array([row["logits"] for row in rows], np.float32)
    # The product is exact; what goes into it is computed in float and may be rounded to the code next to it.
    np.testing.assert_allclose(answers, here.logits(texts), atol=0.05)
    assert len({row["label"] for row in rows}) > 1
    assert timing["workloads"]["real"]["latency_ms"]["samples"] == len(timing["workloads"]["real"]["seconds"])


def test_a_board_without_dot_products(
    loopback: Any,
    emulated_python: Callable[[str], Path],
    tiny_bundle: Path,
    model: Model,
    tiny_texts: list[str],
) -> None:
    loopback.python = str(emulated_python("cortex-a72"))
    texts = tiny_texts[:12]
    with loopback.device() as device:
        facts = device.probe()
        assert (facts["architecture"], facts["flags"]["dotprod"]) == ("aarch64", False)
        assert facts["model"] == "ARM implementer 0x41 part 0xd08"
        device.push(tiny_bundle)
        device.verify()
        rows = device.predict(texts)
    answers = np.array([row["logits"] for row in rows], np.float32)
    np.testing.assert_allclose(answers, model.logits(texts), atol=1e-5)
