"""Where results go: a console on stdout, or a file that is written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocketformer.runtime.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 110


def stdout_console() -> Console:
    """A console on stdout, as wide as the terminal; wide enough for every table when stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def write_file(path: Path, text: str) -> None:
    """Write ``text`` whole or not at all; ``InputError`` when the path is not one that can be written."""
    temporary = path.with_name(f".{path.name}.tmp")
    if path.is_dir():
        raise InputError(f"{path} is a directory", hint="Name a file.")
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")  # a device or a pipe
        return
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except FileNotFoundError as error:
        raise InputError(f"there is no folder {path.parent}", hint="Make it first.") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
