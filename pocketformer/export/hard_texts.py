"""Texts that tokenizers trip over, always the same ones: to hold two tokenizers against each other.

Accents as one character and as two, combining marks without a letter, ligatures, letters whose lower case is longer,
Chinese, Japanese and Korean, right-to-left scripts, emoji with joiners and skin tones, control characters, every kind
of space, private and unassigned characters, special tokens written out, very long words, very long texts, none at all.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

COUNT = 1000
_SEED = 20

_PIECES: tuple[str, ...] = (
    "hello", "Who", "WORLD", "the", "of", "unbelievable", "x", "don't", "rock'n'roll", "e.g.", "U.S.A.",
    "3.14", "1,000", "2024-01-31", "a_b", "C++", "#tag", "@name", "me@example.org",
    "https://example.org/a?b=c&d=%20", "$5", "50%", "~", "(a)", "[b]", "{c}", "<d>", "\"q\"", "'s", "--",
    "...", "!?", "`", "^", "\\", "|", "*", "=", "/", "caf\u00e9", "cafe\u0301", "\u0301",
    "\u0308\u0308\u0308", "na\u00efve", "A\u030angstro\u0308m", "\u00df", "\u1e9e", "\u0130", "\u0131",
    "\ufb01", "\u01c5", "\u00c6", "\u0152", "\u00f8", "\u0142", "\u0111", "\u2126", "\u212b",
    "\u03a3\u03c2", "\u041f\u0440\u0438\u0432\u0435\u0442", "\u0439", "\u0438\u0306", "\u4f60\u597d",
    "\u65e5\u672c\u8a9e", "\u3053\u3093\u306b\u3061\u306f", "\u30ab\u30bf\u30ab\u30ca", "\uff76\uff85",
    "\uff21\uff22\uff23", "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab", "\U00020000", "\U0002f800",
    "\u0645\u0631\u062d\u0628\u0627", "\u0640", "\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\U0001f600",
    "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
    "\u2764\ufe0f", "1\ufe0f\u20e3", "\u00a9", "\u2122", "\u2018a\u2019", "\u201cb\u201d", "\u00ab",
    "\u2014", "\u2026", "\u00bf", "\u00a1", "\u20ac", "\u00a3", "\u00b2", "\u00bd", "\u2460", "\u2163",
    "\u0000", "a\u0000b", "\u0001", "\u0007", "\u001b[0m", "\u007f", "\u0085", "\u200b", "a\u200db",
    "\u200e", "\u202e", "\u2060", "\ufeff", "\u00ad", "\t", "\n", "\r\n", "\u000b", "\u000c", "\u00a0",
    "\u2003", "\u2028", "\u3000", "\ufffd", "\ue000", "\U000f0000", "\U0010ffff", "\ufdd0", "[CLS]",
    "[SEP]", "[PAD]", "[UNK]", "[MASK]", "<s>", "</s>", "<pad>", "<mask>", "##ing", "\u2581a", "\u0120b",
    "[sep]",
)  # fmt: skip
_LONG: tuple[str, ...] = (
    "", " ", "  \t \n", "a" * 99, "a" * 100, "a" * 101, "a" * 200, "a" * 201, "A" * 5000, "ab " * 2000, "." * 300,
    "\u00e9" * 150, "\u4f60" * 600, "\U0001f600" * 300, "e" + "\u0301" * 200, "\u0000" * 20, "[SEP]" * 100, "1" * 500,
)  # fmt: skip


def hard_texts(count: int = COUNT) -> list[str]:
    """``count`` different texts: each piece alone, the long ones, then mixtures of two to six pieces."""
    return _first([*_PIECES, *_LONG], _mixtures(_PIECES), count)


def hard_texts_of(characters: str, longest: int, count: int = COUNT) -> list[str]:
    """``count`` different texts of the characters alone that the class ``[characters]`` holds, ``longest`` at most.

    Those of ``hard_texts`` that are made of them, each character alone, runs of one, and random texts of all lengths;
    fewer where there are hardly so many.
    """
    allowed = re.compile(f"[{characters}]*")
    letters = [c for c in map(chr, range(0x10000)) if not 0xD800 <= ord(c) < 0xE000 and allowed.fullmatch(c)]
    if not letters:
        return [""]
    rng = random.Random(_SEED)
    runs = [letter * length for letter in letters[:60] for length in (1, min(longest, 101), longest)]
    fitting = [text for text in hard_texts() if len(text) <= longest and allowed.fullmatch(text)]
    found = dict.fromkeys([*fitting, *runs[: count // 2]])
    for _ in range(20 * count):
        if len(found) >= count:
            break
        found["".join(rng.choice(letters) for _ in range(rng.randint(0, longest)))] = None
    return list(found)[:count]


def _mixtures(pieces: Sequence[str]) -> list[str]:
    rng = random.Random(_SEED)
    joints = ("", " ", "  ", "-", "\t")
    return [
        "".join(rng.choice(pieces) + rng.choice(joints) for _ in range(rng.randint(2, 6)))
        for _ in range(2000)
    ]


def _first(fixed: Sequence[str], more: Sequence[str], count: int) -> list[str]:
    return list(dict.fromkeys([*fixed, *more]))[:count]
