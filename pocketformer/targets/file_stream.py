"""Files on their way to a device: a tar stream into the standard input of a call."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

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
