"""What an inspection gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Facts of one model as plain values (``facts``), and the same as lines for a person."""

    facts: dict[str, Any]
    text: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.facts

    def lines(self) -> Sequence[str]:
        """The facts as a person reads them."""
        return self.text
