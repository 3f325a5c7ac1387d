from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.text import TextEncoder

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ANY_TEXT = st.text(st.characters(), max_size=60)  # characters() also draws surrogates


@pytest.fixture(scope="module")
def encoder(tiny_model_dir: Path) -> TextEncoder:
    return TextEncoder(tiny_model_dir / "tokenizer.json", 16, 0, INPUTS)


def test_equals_transformers(encoder: TextEncoder, tiny_model_dir: Path, tiny_texts: list[str]) -> None:
    from transformers import AutoTokenizer

    texts = [*tiny_texts, "", "cat " * 50, "Ünïcödé ?", "\t\n"]
    expected = AutoTokenizer.from_pretrained(tiny_model_dir)(
        texts, padding=True, truncation=True, max_length=16, return_tensors="np"
    )
    actual = encoder.encode(texts)
    assert list(actual) == list(INPUTS)
    for name in INPUTS:
        assert actual[name].dtype == np.int64
        np.testing.assert_array_equal(actual[name], expected[name])


def test_pads_to_the_longest_with_pad_id(tiny_model_dir: Path) -> None:
    encoder = TextEncoder(tiny_model_dir / "tokenizer.json", 16, 7, INPUTS)
    feeds = encoder.encode(["cat", "cat dog horse"])
    assert feeds["input_ids"].shape == (2, 5)
    assert feeds["input_ids"][0, 3:].tolist() == [7, 7]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_gives_only_the_inputs_asked_for(tiny_model_dir: Path) -> None:
    encoder = TextEncoder(tiny_model_dir / "tokenizer.json", 16, 0, ("input_ids", "attention_mask"))
    assert set(encoder.encode(["cat"])) == {"input_ids", "attention_mask"}
    assert set(encoder.encode_one("cat")) == {"input_ids", "attention_mask"}


def test_settings_inside_the_tokenizer_file_are_not_obeyed(tiny_model_dir: Path, tmp_path: Path) -> None:
    document = json.loads((tiny_model_dir / "tokenizer.json").read_text(encoding="utf-8"))
    document["padding"] = {
        "strategy": {"Fixed": 32},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    document["truncation"] = {"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    ids = TextEncoder(path, 16, 0, INPUTS).encode(["cat dog horse bird"])["input_ids"]
    assert ids.shape == (1, 6)


@given(text=ANY_TEXT)
@settings(max_examples=150)
def test_one_text_is_encoded_alike_on_every_path(encoder: TextEncoder, text: str) -> None:
    one = encoder.encode_one(text)
    few = encoder.encode([text])
    many = encoder.encode([text] * 70)
    for name in INPUTS:
        np.testing.assert_array_equal(one[name], few[name])
        np.testing.assert_array_equal(one[name], many[name][:1])
    assert one["input_ids"].shape[1] <= 16


def test_surrogates_do_not_crash(encoder: TextEncoder) -> None:
    lone = encoder.encode(["cat \ud800 dog"])["input_ids"]
    np.testing.assert_array_equal(lone, encoder.encode(["cat � dog"])["input_ids"])
    pair = encoder.encode(["cat \ud83d\ude00"])["input_ids"]
    np.testing.assert_array_equal(pair, encoder.encode(["cat \U0001f600"])["input_ids"])


@pytest.mark.parametrize("count", [3, 100])
@pytest.mark.parametrize("wrong", [None, 3.0, b"cat", ("cat", "dog"), ["cat"]])
def test_an_item_that_is_no_text_is_named(encoder: TextEncoder, wrong: object, count: int) -> None:
    texts = ["cat"] * count
    texts[2] = wrong  # type: ignore[call-overload]
    with pytest.raises(InputError, match=f"item 2 is {type(wrong).__name__}"):
        encoder.encode(texts)
    with pytest.raises(InputError, match="not text"):
        encoder.encode_one(wrong)  # type: ignore[arg-type]


def test_a_single_text_in_place_of_a_list_is_refused(encoder: TextEncoder) -> None:
    for texts in ("cat", "", b"cat"):
        with pytest.raises(InputError, match="a list of texts"):
            encoder.encode(texts)
    with pytest.raises(InputError, match="no text to encode"):
        encoder.encode([])


def test_bad_files_and_settings(tiny_model_dir: Path, tmp_path: Path) -> None:
    good = tiny_model_dir / "tokenizer.json"
    broken = tmp_path / "tokenizer.json"
    broken.write_bytes(good.read_bytes()[:500])
    with pytest.raises(VerificationError, match="tokenizer"):
        TextEncoder(broken, 16, 0, INPUTS)
    with pytest.raises(VerificationError, match="tokenizer"):
        TextEncoder(tmp_path / "absent.json", 16, 0, INPUTS)
    with pytest.raises(VerificationError, match="2 special tokens"):
        TextEncoder(good, 2, 0, INPUTS)
    with pytest.raises(VerificationError, match="pixel_values"):
        TextEncoder(good, 16, 0, ("pixel_values",))


def test_no_token_at_all_becomes_one_masked_pad(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    bare = Tokenizer(models.WordLevel({"[UNK]": 0, "cat": 1}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    bare.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder(tmp_path / "tokenizer.json", 16, 9, INPUTS)
    for feeds in (encoder.encode_one(" "), encoder.encode([" ", ""])):
        assert set(feeds["input_ids"].ravel().tolist()) == {9}
        assert feeds["attention_mask"].sum() == 0


def test_types_of_a_family_that_uses_others_for_one_text(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    other = Tokenizer(models.WordLevel({"[UNK]": 0, "cat": 1, "<cls>": 2}, unk_token="[UNK]"))
    other.pre_tokenizer = pre_tokenizers.Whitespace()
    other.post_processor = processors.TemplateProcessing("$A:0 <cls>:2", special_tokens=[("<cls>", 2)])
    other.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder(tmp_path / "tokenizer.json", 16, 0, INPUTS)
    assert encoder.encode_one("cat")["token_type_ids"].tolist() == [[0, 2]]
    assert encoder.encode(["cat", "cat cat"])["token_type_ids"].tolist() == [[0, 2, 0], [0, 0, 2]]


def test_shared_masks_cannot_be_written_to(encoder: TextEncoder) -> None:
    feeds = encoder.encode_one("cat dog")
    with pytest.raises(ValueError, match="read-only"):
        feeds["attention_mask"][0, 0] = 0


def test_threads_share_an_encoder(tiny_model_dir: Path, tiny_texts: list[str]) -> None:
    encoder = TextEncoder(tiny_model_dir / "tokenizer.json", 16, 0, INPUTS)
    expected = {text: encoder.encode_one(text)["input_ids"].tolist() for text in tiny_texts}
    wrong: list[str] = []

    def work(start: int) -> None:
        for index in range(300):
            text = tiny_texts[(start + index * 7) % len(tiny_texts)]
            feeds = encoder.encode_one(text)
            if feeds["input_ids"].tolist() != expected[text] or not feeds["attention_mask"].all():
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
