"""Seeded texts that tokenizers trip over: what hosts in other languages must take as Python does."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence

LONGEST = 100_000
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»„“”‘’—–…¿¡§¶·、。！？「」"
_SPACES = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\xad\u202a\u202e\u2066\u2069\ufe0e\ufe0f\u180e\u034f"
_CONTROLS = (
    "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)])) + "\ufffd\ufffe\uffff\U0010ffff\ue000\U000f0000"
)
# Capitals that lower oddly: Turkish I, final sigma, sharp s, titlecase digraphs, Cherokee, Georgian, Kelvin.
_CASES = "IİıiΣσςẞßǅǈǋᏣꭰᲐაKÅΩŉǰΐ֏ﬁﬀĲĳÆŒÞÐØŁ"
_EMOJI = "😀🤖👩🏽‍🔬👨‍👩‍👧‍👦🏳️‍🌈🇩🇪🇫🇷1️⃣☃️❤️‍🔥🫠🫨🪿"
_SPECIAL = (
    "[CLS]",
    "[SEP]",
    "[PAD]",
    "[UNK]",
    "[MASK]",
    "[cls]",
    "[ CLS ]",
    "##ing",
    "##",
    "<s>",
    "</s>",
    "[unused1]",
)
# (first, last) of scripts and of corners where Unicode's versions differ.
_SCRIPTS = (
    (0xC0, 0x24F), (0x250, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F), (0x590, 0x6FF), (0x700, 0x8FF),
    (0x900, 0xDFF), (0xE00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x139F),
    (0x13A0, 0x13FF), (0x1780, 0x18AF), (0x1A00, 0x1CFF), (0x1D00, 0x1FFF), (0x2000, 0x2BFF), (0x2C00, 0x2E7F),
    (0x2E80, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7FF), (0xE000, 0xFAFF),
    (0xFB00, 0xFFFF), (0x10000, 0x10FFF), (0x11000, 0x11FFF), (0x12000, 0x16FFF), (0x17000, 0x1B2FF),
    (0x1BC00, 0x1D3FF), (0x1D400, 0x1D7FF), (0x1D800, 0x1EFFF), (0x1F000, 0x1FBFF), (0x20000, 0x2A6DF),
    (0x2A700, 0x2FA1F), (0x30000, 0x323AF), (0x32400, 0xDFFFF), (0xE0000, 0xE01EF), (0xF0000, 0x10FFFF),
)  # fmt: skip
_MARKS = tuple(chr(point) for point in range(0x20000) if unicodedata.combining(chr(point)))


def nasty_texts(count: int, *, words: Sequence[str], seed: int = 0) -> list[str]:
    """``count`` texts, the same for the same seed; ``words`` are texts of the kind that the model is for.

    Among them: lone surrogates (to be taken as U+FFFD), code points that no version of Unicode has assigned, marks in
    wrong order, NUL, special tokens spelt out, and some of ``LONGEST`` characters.
    """
    rng = random.Random(seed)
    makers = (_scripts, _marked, _mixed, _anything, _spelt, _surrogates, _long_word, _runs)
    texts = [_very_long(rng, kind) for kind in range(4)]
    texts += [
        "",
        " ",
        "\0",
        "\ud83d\ude00",
        "\ude00\ud83d",
        "\ud800",
        "ΑΣ ΑΣΑ Σ",
        "İI",
        "[CLS][SEP]",
        "a" * 100,
        "a" * 101,
    ]
    while len(texts) < count:
        texts.append(makers[len(texts) % len(makers)](rng, words))
    return texts[:count]


def _character(rng: random.Random) -> str:
    first, last = rng.choice(_SCRIPTS)
    point = rng.randint(first, last)
    return "\ufffd" if 0xD800 <= point < 0xE000 else chr(point)


def _pick(rng: random.Random, characters: str, most: int) -> str:
    return "".join(rng.choices(characters, k=rng.randint(1, most)))


def _scripts(rng: random.Random, _words: Sequence[str]) -> str:
    first, last = rng.choice(_SCRIPTS)
    points = (rng.randint(first, last) for _ in range(rng.randint(1, 40)))
    return "".join(" " if rng.random() < 0.1 or 0xD800 <= p < 0xE000 else chr(p) for p in points)


def _marked(rng: random.Random, _words: Sequence[str]) -> str:
    """Letters under heaps of combining marks, in any order, decomposed or composed."""
    letters = _LETTERS + _CASES + "éüñçêåộǖ각힣"
    parts = [
        rng.choice(letters) + "".join(rng.choices(_MARKS, k=rng.randint(0, 5)))
        for _ in range(rng.randint(1, 12))
    ]
    form = rng.choice(("NFC", "NFD", "NFKC", "NFKD", ""))
    text = "".join(parts)
    return unicodedata.normalize(form, text) if form else text


def _mixed(rng: random.Random, words: Sequence[str]) -> str:
    """A usual text with something foreign let in at several places."""
    text = list(rng.choice(words))
    for _ in range(rng.randint(1, 6)):
        foreign = rng.choice((_SPACES, _INVISIBLE, _CONTROLS, _CASES, _EMOJI, _PUNCTUATION))
        text.insert(rng.randint(0, len(text)), _pick(rng, foreign, 3))
    return "".join(text)


def _anything(rng: random.Random, _words: Sequence[str]) -> str:
    return "".join(_character(rng) for _ in range(rng.randint(1, 60)))


def _spelt(rng: random.Random, words: Sequence[str]) -> str:
    parts = [
        rng.choice((*_SPECIAL, rng.choice(words)[:20], _pick(rng, _PUNCTUATION, 2)))
        for _ in range(rng.randint(1, 8))
    ]
    return rng.choice(("", " ")).join(parts)


def _surrogates(rng: random.Random, words: Sequence[str]) -> str:
    text = list(rng.choice(words))
    for _ in range(rng.randint(1, 4)):
        text.insert(rng.randint(0, len(text)), chr(rng.randint(0xD800, 0xDFFF)))
    return "".join(text)


def _long_word(rng: random.Random, _words: Sequence[str]) -> str:
    """Words about as long as the longest that a WordPiece model looks at."""
    return " ".join(
        _pick(rng, _LETTERS + _CASES + "字😀", 1) * rng.randint(90, 110) for _ in range(rng.randint(1, 3))
    )


def _runs(rng: random.Random, _words: Sequence[str]) -> str:
    pools = (_LETTERS, _PUNCTUATION, _SPACES, _INVISIBLE, _CONTROLS, _CASES, _EMOJI, "中文字漢𠀀𪜀豈")
    return "".join(_pick(rng, rng.choice(pools), 6) for _ in range(rng.randint(1, 15)))


def _very_long(rng: random.Random, kind: int) -> str:
    alphabet = ("a", "".join(_MARKS), _LETTERS + "     ", "字é😀Σ[CLS] \u0301")[kind]
    return "".join(rng.choices(alphabet, k=LONGEST))
