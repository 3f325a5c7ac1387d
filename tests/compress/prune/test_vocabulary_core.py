from __future__ import annotations

from pocketformer.compress.prune.vocabulary_core import fill_in_order, is_character, needed_pieces, renumber

_PIECES = {"[PAD]": 0, "[unused0]": 1, "[UNK]": 2, "a": 3, "##a": 4, "ab": 5, "##ab": 6, "abc": 7}


def test_characters_alone_and_continued() -> None:
    assert [p for p in _PIECES if is_character(p, "##")] == ["a", "##a"]
    assert is_character("#", "##")
    assert not is_character("##", "##")


def test_needed_pieces_are_special_seen_and_characters() -> None:
    special = {"[PAD]", "[UNK]"}
    assert needed_pieces(_PIECES, {7}, special, characters=False, prefix="##") == {*special, "abc"}
    assert needed_pieces(_PIECES, {7}, special, characters=True, prefix="##") == {*special, "abc", "a", "##a"}


def test_filling_follows_the_order_and_reserved_pieces_come_last() -> None:
    assert fill_in_order(_PIECES, {"abc"}, 4) == {"abc", "[PAD]", "[UNK]", "a"}
    assert fill_in_order(_PIECES, {"abc"}, 7) == set(_PIECES) - {"[unused0]"}
    assert fill_in_order(_PIECES, {"abc", "ab"}, 1) == {"abc", "ab"}
    assert fill_in_order(_PIECES, set(), 100) == set(_PIECES)


def test_new_ids_are_dense_and_keep_the_order() -> None:
    assert renumber(_PIECES, {"abc", "[UNK]", "a"}) == {"[UNK]": 0, "a": 1, "abc": 2}
