"""JSON from strangers: one meaning or none, and no document that a parser chokes on.

Where RFC 8259 leaves it to the reader (a key twice, numbers of any length, any depth), readers differ, and a bundle
that says one thing to Python and another to an app is a way to lie. So these are refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pocketformer.runtime.limits import DEEPEST_JSON

# Beyond any count, size or seed; without a limit a number of a million digits takes older Pythons minutes.
_MOST_DIGITS = 100


def parse_json(text: str) -> Any:
    """The document in ``text``; ``ValueError`` for what is no JSON, and for what only some readers take."""
    try:
        document = json.loads(
            text,
            parse_constant=_no_constant,
            parse_int=_integer,
            object_pairs_hook=_object_without_repetition,
        )
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    level = [document]
    for _ in range(DEEPEST_JSON):
        level = [inner for node in level for inner in _inside(node) if isinstance(inner, (dict, list))]
        if not level:
            return document
    raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"objects and lists lie more than {DEEPEST_JSON} deep in one another"


def _inside(node: Any) -> Sequence[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else ()


def _object_without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(
            f"the key {next(key for key in keys if keys.count(key) > 1)[:60]!r} stands there twice"
        )
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
