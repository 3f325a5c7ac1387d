"""The hosts that an app may be written in, and the writing of what an app of each embeds.

What a host needs lies in a folder beside this module as it is copied: sources that a stranger can read, build and test
without Pocketformer. The bundle goes with them, as it is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketformer.export.hosts.one_file import join_parts
from pocketformer.runtime.errors import InputError

SOURCES = Path(__file__).parent
# What building or testing in place leaves behind is nobody's source.
_LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.py", "node_modules", "build", "vendor", ".*")


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host: ``folders`` below ``SOURCES`` that are laid over each other, and where in the app the bundle goes.

    ``joined`` are C files in them whose parts become one with them. ``then`` says what to do with the folder that was
    written, a command or two.
    """

    name: str
    summary: str
    folders: tuple[str, ...]
    model: str = "model"
    joined: tuple[str, ...] = ()
    then: str = ""


HOSTS: tuple[Host, ...] = (
    Host(
        name="c",
        summary="C11 for any program: one header and one file",
        folders=("c",),
        joined=("pocketformer.c",),
        then="make && make check",
    ),
)


def host_by_name(name: str, hosts: Sequence[Host] = HOSTS) -> Host:
    """The host of this name; ``InputError`` when there is none."""
    for host in hosts:
        if host.name == name:
            return host
    raise InputError(
        f"there is no host {name!r}", hint=f"Hosts are {', '.join(host.name for host in hosts)}."
    )


def write_app(host: Host, bundle: Path, output: Path, *, sources: Path = SOURCES) -> Path:
    """Write the folder ``output``, which must not exist: the host's sources with ``bundle`` inside; ``output``.

    It is made beside its place and renamed: it exists whole or not at all.
    """
    if output.exists():
        raise InputError(f"{output} exists already", hint="Remove it, or write elsewhere.")
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        for folder in host.folders:
            shutil.copytree(sources / folder, work, ignore=_LEFT_BEHIND, dirs_exist_ok=True)
        for name in host.joined:
            join_parts(work / name)
        place = work / host.model
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(bundle, place)
        work.chmod(0o755)  # a temporary directory is private, an app's sources are not
        work.rename(output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return output
