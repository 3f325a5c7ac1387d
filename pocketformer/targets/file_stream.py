"""Files on their way to a device, as a tar stream into the standard input of a call, and from it, as events."""

from __future__ import annotations

import base64
import errno
import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

from pocketformer.runtime.errors import NoSpaceError, VerificationError
from pocketformer.targets.ssh import SshCall


class _TarTarget:
    """What tarfile writes to: standard input of a call, until the other side reads no more."""

    def __init__(self, call: SshCall) -> None:
        self._call = call

    def write(self, data: bytes) -> int:
        if not self._call.write(data):
            raise BrokenPipeError
        return len(data)


def write_tar(call: SshCall, files: Mapping[str, Path | bytes], sizes: Mapping[str, int]) -> None:
    """Send ``files`` by their names, each of the size announced; the other side may stop reading at any time."""
    try:
        with tarfile.open(fileobj=_TarTarget(call), mode="w|") as archive:  # type: ignore[call-overload]
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = sizes[name]
                with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
                    archive.addfile(entry, stream)
    except BrokenPipeError:
        return  # its error event says why


class Arrivals:
    """Files that come from a device, kept beside ``folder`` until ``check`` moves them there.

    ``take`` hears the agent's ``data`` events. The other side is not trusted to name a path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashes: dict[str, Any] = {}
        self._work = Path()

    def __enter__(self) -> Arrivals:
        self._work = Path(tempfile.mkdtemp(prefix=".arriving-", dir=self._folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._work, ignore_errors=True)

    def take(self, event: Mapping[str, Any]) -> None:
        """One block of a file; ``NoSpaceError`` when it does not fit on this machine's disk."""
        name = str(event.get("file"))
        try:
            block = base64.b64decode(str(event.get("base64")), validate=True)
            if Path(name).name != name or name in (".", ".."):
                raise ValueError(name)
            with (self._work / name).open("ab") as file:
                file.write(block)
        except ValueError as error:
            raise _damaged(name) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(
                    f"the disk is full: {name} from the device does not fit", hint="Free some space here."
                ) from error
            raise
        self._hashes.setdefault(name, hashlib.sha256()).update(block)

    def check(self, told: Mapping[str, Mapping[str, Any]], wanted: Sequence[str]) -> None:
        """Move all that is ``wanted`` to the folder; ``VerificationError`` unless each is what was told of it."""
        for name in wanted:
            arrived = self._hashes.get(name)
            if arrived is None or told.get(name, {}).get("sha256") != arrived.hexdigest():
                raise _damaged(name)
        for name in wanted:
            (self._work / name).replace(self._folder / name)


def _damaged(name: str) -> VerificationError:
    return VerificationError(f"{name[:80]!r} was damaged on its way here", hint="Run again.")
