from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.runtime.limits import DEEPEST_JSON
from pocketformer.runtime.strict_json import parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)  # fmt: skip


@given(value=VALUES)
def test_what_json_means(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize("depth", [DEEPEST_JSON - 1, DEEPEST_JSON])
def test_as_deep_as_allowed(depth: int) -> None:
    parse_json("[" * depth + "1" + "]" * depth)
    parse_json('{"a":' * depth + "1" + "}" * depth)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * (DEEPEST_JSON + 1) + "]" * (DEEPEST_JSON + 1), "64 deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "64 deep"),
        ("[" * 100_000, "64 deep|Expecting"),
        ('{"a": 1, "b": 2, "a": 1}', "'a' stands there twice"),
        ('[{"x": {"": 1, "": 2}}]', "'' stands there twice"),
        ("1" * 101, "101 digits"),
        ("-" + "1" * 10_000_000, "digits"),
        ("NaN", "NaN is no JSON number"),
        ("[-Infinity]", "-Infinity is no JSON number"),
        ('"\n"', "Invalid control character"),
        ("1 2", "Extra data"),
        ("\ufeff1", "BOM"),
    ],
)
def test_what_readers_differ_in(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
