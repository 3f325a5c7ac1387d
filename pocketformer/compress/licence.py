"""Under which terms a model came: what its directory says, carried along and never guessed."""

from __future__ import annotations

from pathlib import Path

import yaml


def license_text(directory: Path) -> str | None:
    """The first LICENSE file of a model directory, or None."""
    for path in sorted(directory.glob("LICENSE*")):
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return None


def license_id(directory: Path) -> str | None:
    """The ``license`` of the model card's header (README.md, YAML front matter), or None."""
    card = directory / "README.md"
    try:
        text = card.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    if not text.startswith("---"):
        return None
    try:
        header = yaml.safe_load(text.split("---", 2)[1])
    except (yaml.YAMLError, IndexError):
        return None
    value = header.get("license") if isinstance(header, dict) else None
    return str(value) if value else None
