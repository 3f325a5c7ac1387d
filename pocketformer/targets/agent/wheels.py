"""Installs wheels where there may be no pip: a wheel is a zip file whose content goes onto the path as it is.

The files have been compared with their hashes when they arrived. Scripts, headers and data of a wheel are of no use
here and are left out.
"""

from __future__ import annotations

import errno
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Optional

from pocketformer.runtime.errors import InputError
from pocketformer.targets.agent.device import require_disk
from pocketformer.targets.agent.events import UnfitDeviceError

_LIBRARIES = ("purelib", "platlib")


def install_wheels(folder: Path, packages: Path) -> list[str]:
    """Unpack every wheel in ``folder`` into ``packages``, a new folder; the wheels go, their names are returned.

    ``UnfitDeviceError`` without space, ``InputError`` for a file that is no wheel or leads out of the folder; in both
    cases ``packages`` is removed again.
    """
    wheels = sorted(folder.glob("*.whl"))
    try:
        packages.mkdir()
        for wheel in wheels:
            _unpack(wheel, packages)
            wheel.unlink()
    except OSError as error:
        shutil.rmtree(packages, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnfitDeviceError(
                "no-space",
                "the disk became full while wheels were unpacked there",
                hint="Free some space on the device, or name a roomier place with --folder.",
            ) from error
        raise
    except BaseException:
        shutil.rmtree(packages, ignore_errors=True)
        raise
    return [wheel.name for wheel in wheels]


def _unpack(wheel: Path, packages: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = list(_placed(wheel.name, archive))
            require_disk(packages, sum(entry.file_size for entry, _ in entries))
            for entry, name in entries:
                place = packages / name
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, place.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{wheel.name} is not a whole wheel: {error}", hint="Download it again on the host."
        ) from error


def _placed(wheel: str, archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The files that go onto the path, and where below it."""
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        if any(part in ("", ".", "..") for part in entry.filename.split("/")) or "\\" in entry.filename:
            raise InputError(
                f"{wheel}: {entry.filename!r} leads out of the folder", hint="Do not use this wheel."
            )
        place = _place(PurePosixPath(entry.filename))
        if place is not None:
            yield entry, place


def _place(name: PurePosixPath) -> Optional[PurePosixPath]:
    """Where a file of a wheel goes; None: nowhere. ``NAME.data/purelib`` and ``platlib`` stand for the root."""
    if not name.parts[0].endswith(".data"):
        return name
    if len(name.parts) < 3 or name.parts[1] not in _LIBRARIES:
        return None
    return PurePosixPath(*name.parts[2:])
