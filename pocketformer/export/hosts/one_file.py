"""C sources in parts, for readers, become the one file that an app takes in."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_PART = re.compile(r'^#include "(src/[\w.]+)"\n', re.MULTILINE)


def join_parts(source: Path) -> None:
    """Put the parts that ``source`` includes from the folder ``src`` beside it in their places; remove the folder."""

    def part(include: re.Match[str]) -> str:
        return f"/* ---- {include[1]} ---- */\n\n{(source.parent / include[1]).read_text(encoding='utf-8')}\n"

    source.write_text(_PART.sub(part, source.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.rmtree(source.parent / "src")
