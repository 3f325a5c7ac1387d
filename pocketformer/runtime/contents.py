"""The files of a bundle, wherever they lie: in a directory, or in memory once an archive or a signature was read.

A bundle may come from a stranger. So nothing is opened but regular files inside it (no link, no pipe, no device), and
no more is read than was asked for. Only the path of the directory itself is the user's, and may be a link.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Optional, Protocol, Union

from pocketformer.runtime.errors import InputError, VerificationError

COPY_AGAIN = "The bundle is damaged or was made to mislead: copy it again from where it was made."
NO_BUNDLE = "Give the directory of a bundle, such as out/bundles/cpu, or an archive (.pfz) of one."

_BLOCK = 1 << 20
# Not through a link, and without waiting for the other end of a pipe; Windows has neither flag.
_FLAGS = sum(
    getattr(os, name, 0) for name in ("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
)

Buffer = Union[bytes, mmap.mmap]

ARCHIVE_SUFFIX = ".pfz"


class MissingFileError(VerificationError):
    """A bundle lacks a file."""


class Contents(Protocol):
    """Files by their names in the bundle; names are taken as ``check_file_name`` lets them through.

    Every method raises ``VerificationError`` for a file that is missing, is no regular file or cannot be read; the
    message begins with the file's name.
    """

    place: Path

    def size(self, name: str) -> int:
        """Bytes of the file, which is not opened for it."""

    def read(self, name: str, most: int) -> bytes:
        """The whole file; ``VerificationError`` when it has more than ``most`` bytes."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """The file piece by piece, as much as ``size`` said."""

    def view(self, name: str) -> AbstractContextManager[Buffer]:
        """The file as a buffer; of one on disk only those pages are read that are looked at."""

    def file(self, name: str) -> Optional[Path]:
        """Where native code may read the file by itself; None for one in memory."""


class Folder:
    """The bundle in the directory ``place``; ``InputError`` when there is none."""

    def __init__(self, place: Union[str, Path]) -> None:
        self.place = Path(place)
        if not folder_exists(self.place):
            raise InputError(f"no bundle at {self.place}", hint=NO_BUNDLE)
        self._root = str(self.place)

    def size(self, name: str) -> int:
        """Bytes of the file, which is not opened for it."""
        return self._status(name).st_size

    def read(self, name: str, most: int) -> bytes:
        """The whole file."""
        expected = self.size(name)
        if expected > most:
            raise VerificationError(
                f"{name} has {expected} bytes, more than the {most} allowed", hint=COPY_AGAIN
            )
        return b"".join(self.blocks(name))

    def blocks(self, name: str) -> Iterator[bytes]:
        """The file piece by piece."""
        with self._open(name) as descriptor:
            left = os.fstat(descriptor).st_size
            while left > 0:
                block = os.read(descriptor, min(left, _BLOCK))
                if not block:
                    break  # it shrank meanwhile, which its hash will tell
                left -= len(block)
                yield block

    def file(self, name: str) -> Optional[Path]:
        """The path of the file."""
        return self.place / name

    @contextmanager
    def view(self, name: str) -> Iterator[Buffer]:
        """The file as a buffer of which only those pages are read that are looked at."""
        with self._open(name) as descriptor:
            if os.fstat(descriptor).st_size == 0:
                yield b""  # nothing cannot be mapped
                return
            with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as view:
                yield view

    @contextmanager
    def _open(self, name: str) -> Iterator[int]:
        seen = self._status(name)
        try:
            descriptor = os.open(os.path.join(self._root, name), _FLAGS)  # noqa: PTH118
        except OSError as error:
            raise _unreadable(name, error) from error
        try:
            opened = os.fstat(descriptor)
            if not os.path.samestat(seen, opened):
                raise VerificationError(f"{name} was exchanged while it was opened", hint=COPY_AGAIN)
            yield descriptor
        except OSError as error:
            raise _unreadable(name, error) from error
        finally:
            os.close(descriptor)

    def _status(self, name: str) -> os.stat_result:
        """What lies at ``name``, looked at and not opened, and no step of the way to it through a link."""
        path = self._root
        *above, last = name.split("/")
        try:
            for part in above:
                path = os.path.join(path, part)  # noqa: PTH118
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    raise VerificationError(
                        f"{name} lies below {part}, which is no directory", hint=COPY_AGAIN
                    )
            found = os.lstat(os.path.join(path, last))  # noqa: PTH118
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL, or that no file system holds
            raise _unreadable(name, error) from error
        if stat.S_ISLNK(found.st_mode):
            raise VerificationError(f"{name} is a symbolic link", hint="A bundle holds its files itself.")
        if not stat.S_ISREG(found.st_mode):
            raise VerificationError(f"{name} is no regular file", hint=COPY_AGAIN)
        return found


class HeldFiles:
    """Files in memory: those of a bundle whose bytes were checked, and are used as they were checked.

    ``on_disk`` are those that an engine reads by itself all the same.
    """

    def __init__(
        self, place: Path, files: Mapping[str, bytes], on_disk: Mapping[str, Path] = MappingProxyType({})
    ) -> None:
        self.place = place
        self._files = files
        self._on_disk = on_disk

    def size(self, name: str) -> int:
        """Bytes of the file."""
        path = self._on_disk.get(name)
        return len(self._get(name)) if path is None else path.stat().st_size

    def read(self, name: str, most: int) -> bytes:
        """The whole file."""
        content = self._get(name)
        if len(content) > most:
            raise VerificationError(
                f"{name} has {len(content)} bytes, more than the {most} allowed", hint=COPY_AGAIN
            )
        return content

    def blocks(self, name: str) -> Iterator[bytes]:
        """The file in one piece."""
        yield self._get(name)

    @contextmanager
    def view(self, name: str) -> Iterator[Buffer]:
        """The file."""
        yield self._get(name)

    def file(self, name: str) -> Optional[Path]:
        """None for a file in memory."""
        return self._on_disk.get(name)

    def _get(self, name: str) -> bytes:
        if name not in self._files:
            raise MissingFileError(f"{name} is missing from the bundle", hint=COPY_AGAIN)
        return self._files[name]


def folder_exists(folder: Path) -> bool:
    """Whether ``folder`` is a directory; a path that no file system could hold is not."""
    try:
        return folder.is_dir()
    except (OSError, ValueError):
        return False


def is_archive(path: Path) -> bool:
    """Whether there is an archive at ``path``: a file of that name; a directory may be called anything."""
    try:
        return path.suffix.lower() == ARCHIVE_SUFFIX and path.is_file()
    except (OSError, ValueError):
        return False


def _unreadable(name: str, error: Exception) -> VerificationError:
    if isinstance(error, FileNotFoundError):
        return MissingFileError(f"{name} is missing from the bundle", hint="Copy the whole bundle again.")
    return VerificationError(
        f"{name} cannot be read: {getattr(error, 'strerror', None) or error}", hint=COPY_AGAIN
    )
