"""Files back to the host: a ``data`` event a block, in base64 as events are ASCII, then size and hash of each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pocketformer.runtime.errors import InputError
from pocketformer.targets.agent.events import Events

_BLOCK = 3 << 18  # a multiple of 3, so that base64 pads only the last


def give(folder: Path, names: Sequence[str], events: Events) -> None:
    """Send these files of ``folder``; the result has ``files``: ``bytes`` and ``sha256`` by name."""
    told: dict[str, Any] = {}
    for name in names:
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise InputError(
                f"there is no file {name!r} in {folder.name}", hint="Ask for what was made there."
            )
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for block in iter(lambda file=file: file.read(_BLOCK), b""):  # type: ignore[misc]
                digest.update(block)
                events.send("data", {"file": name, "base64": base64.b64encode(block).decode("ascii")})
        told[name] = {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
    events.send("result", {"files": told})
