"""Typed access to the JSON of a manifest: what is missing or of another type is refused by its place in the file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from pocketformer.runtime.errors import VerificationError

MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.json.sig"
DAMAGED = "The bundle is damaged or was edited by hand: copy it again, or write it again."


class Fields:
    """Typed access to a JSON object; every refusal names the field by its path in the document."""

    def __init__(self, place: str, values: Mapping[str, Any]) -> None:
        self._place = place
        self._values = values

    def _at(self, key: str) -> str:
        return f"{self._place}.{key}" if self._place else key

    def _get(self, key: str, kind: type, wanted: str) -> Any:
        if key not in self._values:
            raise VerificationError(f"{MANIFEST_FILE}: {self._at(key)} is missing", hint=DAMAGED)
        value = self._values[key]
        # In JSON true is no number, though in Python bool is an int.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise wrong(self._at(key), wanted, value)
        return value

    def has(self, key: str) -> bool:
        """Whether the key is there at all."""
        return key in self._values

    def text(self, key: str) -> str:
        """Text that is not empty."""
        value: str = self._get(key, str, "text")
        if not value:
            raise wrong(self._at(key), "text that is not empty", value)
        return value

    def optional_text(self, key: str) -> Optional[str]:
        """Text that is not empty; None where the key is absent or null."""
        return self.text(key) if self._values.get(key) is not None else None

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of ``choices``."""
        value = self.text(key)
        if value not in choices:
            raise wrong(self._at(key), f"one of {', '.join(choices)}", value)
        return value

    def file(self, key: str) -> str:
        """A path inside the bundle."""
        value = self.text(key)
        check_file_name(self._at(key), value)
        return value

    def integer(self, key: str, least: int, most: Optional[int] = None) -> int:
        """A whole number from ``least`` to ``most``."""
        span = f"a whole number of at least {least}" + (f" and at most {most}" if most is not None else "")
        value: int = self._get(key, int, span)
        if value < least or (most is not None and value > most):
            raise wrong(self._at(key), span, value)
        return value

    def number(self, key: str) -> float:
        """A finite number of at least 0."""
        if isinstance(self._values.get(key), int):
            return float(self.integer(key, 0, 2**53))
        value: float = self._get(key, float, "a number of at least 0")
        if not (value >= 0.0 and math.isfinite(value)):
            raise wrong(self._at(key), "a finite number of at least 0", value)
        return value

    def boolean(self, key: str) -> bool:
        """True or false."""
        value: bool = self._get(key, bool, "true or false")
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        """An object, as it is."""
        value: dict[str, Any] = self._get(key, dict, "an object")
        return value

    def entries(self, key: str, most: int) -> dict[str, Any]:
        """An object of at most ``most`` keys."""
        value = self.mapping(key)
        if len(value) > most:
            raise VerificationError(
                f"{MANIFEST_FILE}: {self._at(key)} has {len(value)} entries, more than {most}", hint=DAMAGED
            )
        return value

    def object(self, key: str) -> Fields:
        """An object, for typed access to its keys."""
        return Fields(self._at(key), self.mapping(key))

    def array(self, key: str) -> list[Any]:
        """A list that is not empty."""
        value: list[Any] = self._get(key, list, "a list")
        if not value:
            raise wrong(self._at(key), "a list that is not empty", value)
        return value

    def objects(self, key: str) -> list[Fields]:
        """A list of objects that is not empty."""
        fields = []
        for index, item in enumerate(self.array(key)):
            place = f"{self._at(key)}[{index}]"
            if not isinstance(item, dict):
                raise wrong(place, "an object", item)
            fields.append(Fields(place, item))
        return fields

    def names(self, key: str) -> tuple[str, ...]:
        """A list of different texts, none empty."""
        seen: dict[str, None] = {}
        for index, item in enumerate(self.array(key)):
            if not isinstance(item, str) or not item or item in seen:
                raise wrong(f"{self._at(key)}[{index}]", "text that is neither empty nor a repetition", item)
            seen[item] = None
        return tuple(seen)


def check_file_name(place: str, name: str) -> None:
    """Refuse a name that leads out of the bundle or means different files on different systems.

    The manifest cannot hold its own hash, nor that of its signature.
    """
    parts = name.split("/")
    if (
        any(part in ("", ".", "..") for part in parts)
        or any(c in name for c in "\\:\0")
        or name in (MANIFEST_FILE, SIGNATURE_FILE)
    ):
        raise wrong(place, "a path inside the bundle with forward slashes", name)


def wrong(place: str, wanted: str, value: Any) -> VerificationError:
    """The error for a ``value`` at ``place`` that is not what is ``wanted``."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return VerificationError(f"{MANIFEST_FILE}: {place} must be {wanted}, not {shown}", hint=DAMAGED)
