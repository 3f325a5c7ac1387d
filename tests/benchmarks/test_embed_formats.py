"""The programs behind the rows about other forms of a model, on the small bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from evidence import embed_formats
from evidence.embed_same import Comparison
from evidence.runs import INSIDE


def test_graphs_are_opened_by_turns(small_bundle: Path) -> None:
    graph = str(small_bundle / "model.onnx")
    argv = [sys.executable, str(INSIDE / "opening.py"), "3", graph, graph]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    seconds = json.loads(printed)
    assert [len(taken) for taken in seconds] == [3, 3]
    assert all(value > 0 for taken in seconds for value in taken)


def test_rows_have_names_of_their_own_and_say_what_differs() -> None:
    ids = [row.id for row in embed_formats.ROWS]
    assert len(set(ids)) == len(ids) == 5
    said = embed_formats._in_words(Comparison(texts=10, ids=1, logits=2, labels=3, largest=0.25))
    assert said == "1 ids, 2 logits, 3 labels wrong of 10, logits differ by at most 0.25"
