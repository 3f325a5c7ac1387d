"""The nasty texts, and the rows about JavaScript over a stand-in of what is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evidence import embed_js
from evidence.nasty_texts import LONGEST, nasty_texts
from evidence.table import EvidenceError

WORDS = ["Who was the first king of France ?", "What is a fear of glass ?"]


def test_nasty_texts_are_the_same_for_a_seed_and_of_every_kind() -> None:
    texts = nasty_texts(400, words=WORDS)
    assert texts == nasty_texts(400, words=WORDS)
    assert texts != nasty_texts(400, words=WORDS, seed=1)
    assert len(texts) == 400
    whole = "".join(texts)
    assert max(map(len, texts)) == LONGEST
    assert any("\ud800" <= character < "\ue000" for character in whole)
    for wanted in ("\0", "\u0301", "\u3000", "\u200d", "[CLS]", "\U0001f600", "Σ", "İ", "\ufffd"):
        assert wanted in whole, ascii(wanted)


class StandIn:
    """A subject whose hosts print what the test says."""

    questions = WORDS
    bundle = Path("bundle")

    def __init__(self, other: Any = None, sizes: dict[str, int] | None = None) -> None:
        self.other, self.sizes = other, sizes

    def rows_of(self, host: str, verb: str, bundle: Path, texts: list[str]) -> list[dict[str, Any]]:
        assert verb == "tokens"
        rows = [{"input_ids": [len(text)]} for text in texts]
        if host != "python":
            rows[-1] = self.other or rows[-1]
        return rows

    def output(self, argv: list[str]) -> str:
        return json.dumps(self.sizes)


def test_ids_that_differ_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_js, "FUZZED", 30)
    measure: Any = embed_js.fuzzed_ids("node")
    assert measure(StandIn()).value == 0
    assert measure(StandIn({"input_ids": [-1]})).value == 1


def test_the_engine_is_left_out_of_the_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_js, "program", lambda subject, host: [])
    measure: Any = embed_js.transfer
    sizes = {"/": 1_000_000, "/model/model.onnx": 2_000_000, embed_js.RUNTIME: 9_000_000}
    assert measure(StandIn(sizes=sizes)).value == pytest.approx(3.0)
    with pytest.raises(EvidenceError, match="did not fetch"):
        measure(StandIn(sizes={"/": 1}))
