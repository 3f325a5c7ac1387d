from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from pocketformer.compress.prune.tokenizer_files import (
    all_pieces,
    copy_tokenizer_files,
    has_tokenizer,
    read_tokenizer,
    with_ids,
    write_renumbered,
)
from pocketformer.runtime.errors import ModelError


def _reversed_ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    pieces = all_pieces(tokenizer)
    return {piece: len(pieces) - 1 - number for piece, number in pieces.items()}


@pytest.mark.parametrize(
    "processor",
    [
        None,
        {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        {"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2], "trim_offsets": True,
         "add_prefix_space": False},
    ],
    ids=["template", "bert", "roberta"],
)  # fmt: skip
@pytest.mark.parametrize("nested", [False, True])
def test_every_processor_is_renumbered(tiny_model_dir: Path, processor: Any, nested: bool) -> None:
    tokenizer = read_tokenizer(tiny_model_dir)
    if processor is not None:
        tokenizer["post_processor"] = processor
    if nested:
        tokenizer["post_processor"] = {"type": "Sequence", "processors": [tokenizer["post_processor"]]}
    tokenizer["padding"] = {
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    new = _reversed_ids(tokenizer)
    before = Tokenizer.from_str(json.dumps(tokenizer))
    after = Tokenizer.from_str(json.dumps(with_ids(tokenizer, new)))
    texts = ["the cat purrs ?", "who is the very old king of paris", "zzz [MASK] qq"]
    for old, changed in zip(before.encode_batch(texts), after.encode_batch(texts), strict=True):
        assert old.tokens == changed.tokens
        assert changed.ids == [new[token] for token in old.tokens]
        assert changed.special_tokens_mask == old.special_tokens_mask
    pair = after.encode("a cat", "a dog")
    assert pair.ids == [new[token] for token in pair.tokens]


def test_added_tokens_outside_the_vocabulary_get_their_ids(tiny_model_dir: Path, tmp_path: Path) -> None:
    tokenizer = read_tokenizer(tiny_model_dir)
    count = len(all_pieces(tokenizer))
    token = {**tokenizer["added_tokens"][0], "content": "[NUMBER]", "id": count}
    tokenizer["added_tokens"].append(token)
    new = _reversed_ids(tokenizer)
    write_renumbered(tiny_model_dir, tmp_path, tokenizer, new, max_length=None)
    loaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert loaded.token_to_id("[NUMBER]") == 0
    assert loaded.encode("cat [NUMBER]", add_special_tokens=False).ids == [new["cat"], 0]


def test_copies_are_equal_and_a_missing_tokenizer_is_an_error(tiny_model_dir: Path, tmp_path: Path) -> None:
    copy_tokenizer_files(tiny_model_dir, tmp_path / "out")
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == (tiny_model_dir / file.name).read_bytes()
    assert has_tokenizer(tmp_path / "out")
    assert not has_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="no tokenizer"):
        copy_tokenizer_files(tmp_path, tmp_path / "other")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        read_tokenizer(tmp_path)


def test_older_files_are_read(tiny_model_dir: Path, tmp_path: Path) -> None:
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(tiny_model_dir / name, tmp_path)
    assert all_pieces(read_tokenizer(tmp_path)) == all_pieces(read_tokenizer(tiny_model_dir))
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        read_tokenizer(tmp_path)
