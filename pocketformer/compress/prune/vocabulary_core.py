"""Which pieces of a WordPiece vocabulary stay: pure functions on pieces and ids.

WordPiece takes the longest piece that fits, again and again (Schuster, Nakajima 2012; Devlin et al. 2019).
With a smaller vocabulary it takes the same pieces wherever these are all kept, because the longest piece of
the full vocabulary is then also the longest of the smaller one. Elsewhere it takes shorter ones, down to
single characters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_RESERVED = re.compile(r"^\[unused\d+\]$")


def is_character(piece: str, prefix: str) -> bool:
    """Whether the piece is one character, alone or as the continuation of a word."""
    return len(piece) == 1 or (piece.startswith(prefix) and len(piece) == len(prefix) + 1)


def needed_pieces(
    pieces: Mapping[str, int],
    seen: Collection[int],
    special: Collection[str],
    *,
    characters: bool,
    prefix: str,
) -> set[str]:
    """The pieces that must have their own row: special tokens, seen ones and, on request, all characters.

    ``pieces`` maps piece to id, ``seen`` are ids. With all characters kept, a word made of them always
    encodes.
    """
    seen_ids = set(seen)
    wanted = {piece for piece, number in pieces.items() if number in seen_ids or piece in special}
    if characters:
        wanted |= {piece for piece in pieces if is_character(piece, prefix)}
    return wanted


def fill_in_order(pieces: Mapping[str, int], kept: Collection[str], size: int) -> set[str]:
    """``kept`` and then further pieces in the tokenizer's own order, which follows frequency, up to ``size``.

    Reserved ``[unusedN]`` pieces come last: no text contains them.
    """
    chosen = set(kept)
    order = sorted(
        (piece for piece in pieces if piece not in chosen),
        key=lambda p: (bool(_RESERVED.match(p)), pieces[p]),
    )
    chosen.update(order[: max(0, size - len(chosen))])
    return chosen


def renumber(pieces: Mapping[str, int], kept: Collection[str]) -> dict[str, int]:
    """New ids 0, 1, ... for the kept pieces, in the order of their old ids."""
    ordered = sorted(kept, key=lambda piece: pieces[piece])
    return {piece: number for number, piece in enumerate(ordered)}
