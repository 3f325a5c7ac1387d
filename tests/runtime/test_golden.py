from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.runtime.errors import PocketformerError, VerificationError
from pocketformer.runtime.golden import (
    LARGEST_ID,
    GoldenSample,
    golden_from_jsonl,
    golden_to_jsonl,
    make_golden,
)
from pocketformer.runtime.model import Model

SAMPLES = st.builds(
    GoldenSample,
    text=st.text(st.characters(), max_size=40),
    input_ids=st.lists(st.integers(0, LARGEST_ID)).map(tuple),
    logits=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1).map(tuple),
    label=st.text(),
    score=st.none() | st.floats(0.0, 1.0),
)


@given(samples=st.lists(SAMPLES, min_size=1, max_size=4))
def test_round_trip_of_any_text_and_every_digit(samples: list[GoldenSample]) -> None:
    text = golden_to_jsonl(samples)
    assert text.isascii()
    assert golden_from_jsonl(text) == samples


def test_samples_are_the_models_own_answers(tiny_runtime: Model, tiny_texts: list[str]) -> None:
    samples = make_golden(tiny_runtime, tiny_texts[:4])
    for sample, text in zip(samples, tiny_texts[:4], strict=True):
        prediction = tiny_runtime.predict_one(text)
        assert (sample.text, sample.label) == (text, prediction.label)
        assert list(sample.input_ids) == tiny_runtime.encode([text])["input_ids"][0].tolist()
        np.testing.assert_array_equal(np.float32(sample.logits), tiny_runtime.logits([text])[0])
    assert golden_from_jsonl(golden_to_jsonl(samples)) == samples


def test_a_graph_that_gives_no_number_is_refused(
    tiny_runtime: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_runtime, "_run", lambda feeds: np.full((1, 3), np.nan, dtype=np.float32))
    with pytest.raises(VerificationError, match="not finite"):
        make_golden(tiny_runtime, ["cat"])


GOOD = {"text": "a", "input_ids": [1, 2], "logits": [0.5, -1], "label": "x"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([], "not a JSON object"),
        ({**GOOD, "text": 3}, "text and label must be text"),
        ({**GOOD, "input_ids": [1.5]}, "input_ids must be"),
        ({**GOOD, "input_ids": [True]}, "input_ids must be"),
        ({**GOOD, "logits": []}, "logits must be"),
        ({**GOOD, "logits": ["1"]}, "logits must be"),
        ({**GOOD, "logits": [float("nan")]}, "NaN is no JSON number"),
        ({**GOOD, "logits": [10**400]}, "401 digits"),
        ({**GOOD, "input_ids": [-1]}, "input_ids must be"),
        ({**GOOD, "input_ids": [LARGEST_ID + 1]}, "input_ids must be"),
        ({**GOOD, "score": 1.5}, "score must be"),
        ({**GOOD, "score": True}, "score must be"),
        ({**GOOD, "score": "0.5"}, "score must be"),
        ({key: value for key, value in GOOD.items() if key != "label"}, "'label' is missing"),
    ],
)
def test_the_wrong_line_is_named(row: object, reason: str) -> None:
    text = "\n".join([json.dumps(GOOD), "", json.dumps(row)])
    with pytest.raises(VerificationError, match=rf"line 3: .*{reason}"):
        golden_from_jsonl(text)


def test_numbers_that_overflow_are_refused() -> None:
    text = json.dumps(GOOD).replace("0.5", "1e999")
    with pytest.raises(VerificationError, match="logits must be finite"):
        golden_from_jsonl(text)


def test_scores_are_the_softmax_of_the_logits(tiny_runtime: Model, tiny_texts: list[str]) -> None:
    for sample in make_golden(tiny_runtime, tiny_texts[:4]):
        exact = np.exp(np.array(sample.logits)) / np.exp(np.array(sample.logits)).sum()
        assert sample.score == pytest.approx(exact.max(), abs=1e-12)
        assert sample.score == pytest.approx(tiny_runtime.predict_one(sample.text).score, abs=1e-12)


def test_no_samples_prove_nothing() -> None:
    with pytest.raises(VerificationError, match="no golden samples"):
        golden_from_jsonl("\n \n")


@given(text=st.text())
def test_any_text_gives_a_named_error(text: str) -> None:
    with pytest.raises(PocketformerError):
        golden_from_jsonl(text)
