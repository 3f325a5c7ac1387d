"""Files from the host: a line that says what comes, then a tar stream; each is hashed as it is written.

The line is JSON: ``{"files": {NAME: {"bytes": N, "sha256": HEX}}}``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.targets.agent.device import require_disk
from pocketformer.targets.agent.events import UnfitDeviceError

_BLOCK = 1 << 20
_LONGEST_LINE = 1 << 24
_AGAIN = "Send it again; if that does not help, check the disk of the device."


def receive(stream: BinaryIO, folder: Path) -> dict[str, Any]:
    """Write the files of ``stream`` into ``folder``, which must not exist yet: ``files`` and ``bytes`` of them.

    ``VerificationError`` when something is missing or is not what was announced, ``UnfitDeviceError`` without space;
    in both cases ``folder`` is removed again.
    """
    announced = _announcement(stream)
    require_disk(folder.parent, sum(entry["bytes"] for entry in announced.values()))
    try:
        folder.mkdir()
        _unpack(stream, folder, announced)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnfitDeviceError(
                "no-space",
                "the disk became full while files arrived there",
                hint="Free some space on the device, or name a roomier place with --folder.",
            ) from error
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return {"files": len(announced), "bytes": sum(entry["bytes"] for entry in announced.values())}


def _announcement(stream: BinaryIO) -> dict[str, dict[str, Any]]:
    try:
        files = json.loads(stream.readline(_LONGEST_LINE))["files"]
        announced = {
            str(name): {"bytes": int(entry["bytes"]), "sha256": str(entry["sha256"])}
            for name, entry in files.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise VerificationError("the list of files did not arrive whole", hint=_AGAIN) from error
    for name in announced:
        if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name:
            raise InputError(f"{name!r} leads out of the folder", hint="Send plain relative names.")
    return announced


def _unpack(stream: BinaryIO, folder: Path, announced: Mapping[str, Mapping[str, Any]]) -> None:
    arrived = set()
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or member.name not in announced:
                    raise VerificationError(f"{member.name!r} arrived unannounced", hint=_AGAIN)
                digest = hashlib.sha256()
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    for block in iter(lambda content=content: content.read(_BLOCK), b""):  # type: ignore[misc]
                        digest.update(block)
                        file.write(block)
                if digest.hexdigest() != announced[member.name]["sha256"]:
                    raise VerificationError(f"{member.name} was damaged on its way", hint=_AGAIN)
                arrived.add(member.name)
    except tarfile.TarError as error:
        raise VerificationError(f"the files did not arrive whole: {error}", hint=_AGAIN) from error
    missing = sorted(set(announced) - arrived)
    if missing:
        raise VerificationError(f"{missing[0]} did not arrive", hint=_AGAIN)
