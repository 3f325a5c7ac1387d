from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pocketformer.compress.models import load_classifier, save_classifier
from pocketformer.compress.prune.config import VocabularyConfig
from pocketformer.compress.prune.tokenizer_files import all_pieces, read_tokenizer
from pocketformer.compress.prune.vocabulary import prune_vocabulary
from pocketformer.runtime.errors import ModelError, RecipeError


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for the last bits, which may depend on where the operands lie in memory."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


TEXTS = ["the cat purrs near paris ?", "who is the old king", "a dogs"]


def _encode(directory: Path, text: str) -> Any:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    return tokenizer.encode(text)


def _logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)
        ).logits


@pytest.fixture(scope="module", params=["split", "nearest"])
def pruned(
    request: pytest.FixtureRequest, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The full model, the replacement, the directory of the pruned one, and the step's result."""
    torch.set_num_threads(1)
    model = load_classifier(tiny_model_dir)
    tokenizer_dir = tmp_path_factory.mktemp("tokenizer")
    config = VocabularyConfig(size=75 if request.param == "split" else 30, replacement=request.param)
    result = prune_vocabulary(model, tiny_model_dir, TEXTS, config, tokenizer_dir)
    directory = save_classifier(result.output, tokenizer_dir, tmp_path_factory.mktemp("pruned"))
    return model, request.param, directory, result


def test_rows_are_fewer_and_the_size_is_kept(pruned: Any) -> None:
    model, replacement, directory, result = pruned
    rows = 75 if replacement == "split" else 30
    assert result.metrics["rows_after"] == rows
    again = load_classifier(directory)
    assert again.config.vocab_size == again.get_input_embeddings().num_embeddings == rows
    assert max(all_pieces(read_tokenizer(directory)).values()) == rows - 1
    assert model.get_input_embeddings().num_embeddings > rows  # the original is untouched
    assert result.metrics["parameters_after"] < result.metrics["parameters_before"]


def test_texts_of_kept_pieces_give_equal_pieces_and_logits(pruned: Any, tiny_model_dir: Path) -> None:
    model, _, directory, _ = pruned
    again = load_classifier(directory)
    plain = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    for text in TEXTS:
        old, new = _encode(tiny_model_dir, text), _encode(directory, text)
        assert old.tokens == new.tokens
        assert_same(_logits(model, old.ids), _logits(again, new.ids))
        assert_same(_logits(again, new.ids), _logits(plain, new.ids))
        assert tokenizer(text)["input_ids"] == new.ids
        assert tokenizer.tokenize(text, add_special_tokens=True) == new.tokens


def test_special_tokens_are_renumbered_everywhere(pruned: Any) -> None:
    _, _, directory, _ = pruned
    tokenizer = AutoTokenizer.from_pretrained(directory)
    pieces = all_pieces(read_tokenizer(directory))
    for role in ("pad", "unk", "cls", "sep", "mask"):
        token = getattr(tokenizer, f"{role}_token")
        assert getattr(tokenizer, f"{role}_token_id") == pieces[token]
        # Nothing shares the id of a special token.
        assert [piece for piece, number in pieces.items() if number == pieces[token]] == [token]
    assert load_classifier(directory).config.pad_token_id == pieces["[PAD]"]
    written = json.loads((directory / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {int(number): entry["content"] for number, entry in written.items()} == {
        number: piece for piece, number in pieces.items() if piece.startswith("[")
    }


def test_vocab_txt_only_where_it_can_tell_the_truth(pruned: Any) -> None:
    _, replacement, directory, _ = pruned
    if replacement == "nearest":
        assert not (directory / "vocab.txt").exists()
        return
    lines = (directory / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert {piece: number for number, piece in enumerate(lines)} == all_pieces(read_tokenizer(directory))


_WORDS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
_KNOWN = st.sampled_from(
    ["cat", "cats", "dog", "paris", "kings", "who", "purrs", "?", ".", "[SEP]", "capital", "barks"]
)
_TEXT = st.lists(st.one_of(_WORDS, _KNOWN), max_size=8).map(" ".join)


@settings(max_examples=150)
@given(text=st.one_of(_TEXT, st.text(max_size=30)))
def test_any_text_encodes_as_promised(pruned: Any, tiny_model_dir: Path, text: str) -> None:
    _, replacement, directory, _ = pruned
    if any("\ud800" <= c <= "\udfff" for c in text):
        return
    old, new = _encode(tiny_model_dir, text), _encode(directory, text)
    kept = set(all_pieces(read_tokenizer(directory)))
    if replacement == "nearest" or set(old.tokens) <= kept:
        assert new.tokens == old.tokens
    # Every character of this vocabulary has a piece of its own, so no word becomes unknown.
    assert new.tokens.count("[UNK]") == old.tokens.count("[UNK]")
    assert "".join(new.tokens).replace("##", "") == "".join(old.tokens).replace("##", "")


def test_nearest_takes_the_row_that_is_most_alike(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(tiny_model_dir)
    pieces = all_pieces(read_tokenizer(tiny_model_dir))
    with torch.no_grad():
        rows = model.get_input_embeddings().weight
        rows[pieces["wolf"]] = rows[pieces["cat"]] * 1.5  # unseen, same direction as a seen piece
    config = VocabularyConfig(size=1, replacement="nearest")
    result = prune_vocabulary(model, tiny_model_dir, ["the cat ?"], config, tmp_path)
    new = all_pieces(read_tokenizer(tmp_path))
    assert new["wolf"] == new["cat"]
    assert any("instead of 1" in note for note in result.notes)


def test_saving_a_shared_vocabulary_by_a_tokenizer_object_loses_pieces(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Why files are copied. Should this fail one day, the warning in the module can go."""
    model = load_classifier(tiny_model_dir)
    config = VocabularyConfig(size=30, replacement="nearest")
    prune_vocabulary(model, tiny_model_dir, TEXTS, config, tmp_path)
    loaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert len(json.loads(loaded.to_str())["model"]["vocab"]) < len(all_pieces(read_tokenizer(tmp_path)))


def test_positions_can_be_cut_along(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(tiny_model_dir)
    result = prune_vocabulary(
        model, tiny_model_dir, TEXTS, VocabularyConfig(size=80, max_positions=16), tmp_path
    )
    directory = save_classifier(result.output, tmp_path, tmp_path / "m")
    again = load_classifier(directory)
    assert again.config.max_position_embeddings == 16
    assert AutoTokenizer.from_pretrained(directory).model_max_length == 16
    ids = _encode(directory, TEXTS[0]).ids
    assert_same(_logits(again, ids), _logits(model, _encode(tiny_model_dir, TEXTS[0]).ids))


def test_lone_surrogates_in_texts_are_no_trouble(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(tiny_model_dir)
    prune_vocabulary(model, tiny_model_dir, ["cat \ud800 dog"], VocabularyConfig(size=90), tmp_path)


def test_what_cannot_be_pruned_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(tiny_model_dir)
    other = Path(shutil.copytree(tiny_model_dir, tmp_path / "other"))
    content = json.loads((other / "tokenizer.json").read_text())
    content["model"] = {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 0}
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"Unigram.*supported for WordPiece"):
        prune_vocabulary(model, other, TEXTS, VocabularyConfig(), tmp_path / "out")
    config = VocabularyConfig(size=30, replacement="nearest")
    result = prune_vocabulary(model, tiny_model_dir, TEXTS, config, tmp_path / "once")
    with pytest.raises(ModelError, match="pruned already"):
        prune_vocabulary(result.output, tmp_path / "once", TEXTS, config, tmp_path / "twice")
    with pytest.raises(ModelError, match="belongs to the model") as caught:
        prune_vocabulary(result.output, tiny_model_dir, TEXTS, config, tmp_path / "twice")
    assert "rows" in caught.value.message


@pytest.mark.parametrize(
    "values", [{"size": 0}, {"size": 1.2}, {"replacement": "drop"}, {"max_positions": 0}]
)
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        VocabularyConfig(**values)
