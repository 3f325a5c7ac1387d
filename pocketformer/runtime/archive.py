"""Read a bundle out of one file (.pfz): a ZIP of its files, signed over all its bytes or not.

It is read into memory and never unpacked to a disk: engine and tokenizer take bytes, so there is no directory to
clean up, none that another process could write to between check and use, and no path in it that could lead anywhere.
``docs/bundle-format.md`` says what an archive may hold; that is far less than ZIP (APPNOTE.TXT 6.3) allows, because
readers of ZIP differ in what they make of the rest.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from pocketformer.runtime.contents import COPY_AGAIN, NO_BUNDLE, Buffer, MissingFileError
from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.limits import LARGEST_ARCHIVE, MOST_FILES
from pocketformer.runtime.manifest_fields import MANIFEST_FILE, check_file_name
from pocketformer.runtime.signature import SIGNATURE_BYTES, SIGNATURE_FILE, PublicKey, unsigned

_END = struct.Struct("<4s4H2LH")  # APPNOTE 4.3.16, end of central directory record
_MAGIC = b"PK\x05\x06"
_ENCRYPTED = 0x1
_UNIX = 3
# With a manifest and its signature.
_MOST_ENTRIES = MOST_FILES + 2
# Names of at most some hundred bytes each.
_LARGEST_DIRECTORY = 2**20


class Archive:
    """The bundle in the archive ``place``. With ``key`` its signature is checked before anything is parsed.

    Raises ``InputError`` when there is no such file, ``VerificationError`` when it is not signed by the key, or holds
    what an archive of a bundle does not: links, directories, paths that lead out, names twice, encrypted or
    overlapping entries, anything before or behind the ZIP, more than fits into memory.
    """

    def __init__(self, place: Path, key: Optional[PublicKey] = None) -> None:
        self.place = place
        content = _read(place)
        if key is not None:
            _check_signature(place, content, key)
        self._entries = {info.filename: info for info in self._open(content)}

    def _open(self, content: bytes) -> list[zipfile.ZipInfo]:
        plain = _without_comment(content)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(plain))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeDecodeError) as error:
            raise _damaged(f"it is no ZIP: {error}") from error
        entries = self._zip.infolist()
        seen: set[str] = set()
        for info in entries:
            _check_entry(info, seen)
            seen.add(info.filename)
        if sum(info.file_size for info in entries) > LARGEST_ARCHIVE:
            raise _damaged(f"unpacked it has more than {LARGEST_ARCHIVE} bytes")
        ordered = sorted(entries, key=lambda info: info.header_offset)
        for before, after in zip(ordered, ordered[1:]):
            if before.header_offset + before.compress_size > after.header_offset:
                raise _damaged(f"{after.filename!r} lies inside {before.filename!r}")
        return entries

    def size(self, name: str) -> int:
        """Bytes of the file when unpacked, as the archive's directory says."""
        return self._get(name).file_size

    def read(self, name: str, most: int) -> bytes:
        """The whole file, unpacked; never more than the archive's directory says."""
        info = self._get(name)
        if info.file_size > most:
            raise VerificationError(
                f"{name} has {info.file_size} bytes, more than the {most} allowed", hint=COPY_AGAIN
            )
        try:
            with self._zip.open(info) as stream:
                content = stream.read(info.file_size + 1)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            OSError,
        ) as error:
            raise VerificationError(f"{name} cannot be unpacked: {error}", hint=COPY_AGAIN) from error
        if len(content) != info.file_size:
            raise VerificationError(
                f"{name} has {len(content)} bytes instead of the {info.file_size} that the archive says",
                hint=COPY_AGAIN,
            )
        return content

    def blocks(self, name: str) -> Iterator[bytes]:
        """The file in one piece."""
        yield self.read(name, self.size(name))

    @contextmanager
    def view(self, name: str) -> Iterator[Buffer]:
        """The file, unpacked."""
        yield self.read(name, self.size(name))

    def file(self, name: str) -> Optional[Path]:
        """None: it lies in memory."""
        del name
        return None

    def _get(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise MissingFileError(f"{name} is missing from the archive", hint=COPY_AGAIN)
        return self._entries[name]


def _read(place: Path) -> bytes:
    try:
        with place.open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise InputError(f"{place} is no regular file", hint=NO_BUNDLE)
            content = stream.read(LARGEST_ARCHIVE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"no bundle at {place}: {reason}", hint=NO_BUNDLE) from error
    if len(content) > LARGEST_ARCHIVE:
        raise _damaged(f"it has more than {LARGEST_ARCHIVE} bytes")
    return content


def _check_signature(place: Path, content: bytes, key: PublicKey) -> None:
    """The last 64 bytes, if the record before them says that they are the archive's comment."""
    at = len(content) - SIGNATURE_BYTES - _END.size
    if at < 0 or content[at : at + 4] != _MAGIC or content[-SIGNATURE_BYTES - 2 :][:2] != b"\x40\x00":
        raise unsigned(str(place))
    key.check(content[-SIGNATURE_BYTES:], content[:-SIGNATURE_BYTES], place.name)


def _without_comment(content: bytes) -> bytes:
    """The ZIP as one that has no comment, so that there is one place only where it can end."""
    for comment in (0, SIGNATURE_BYTES):
        at = len(content) - comment - _END.size
        if at < 0:
            break
        fields = _END.unpack_from(content, at)
        magic, disk, first_disk, here, entries, size, offset, length = fields
        if magic != _MAGIC or length != comment:
            continue
        if disk or first_disk or here != entries or entries > _MOST_ENTRIES or size > _LARGEST_DIRECTORY:
            raise _damaged(f"its directory has {entries} entries and {size} bytes")
        if offset + size != at:
            raise _damaged("something stands before or behind the ZIP")
        return content[: at + _END.size - 2] + b"\0\0"
    raise _damaged("it is no ZIP, or has a comment that is no signature")


def _check_entry(info: zipfile.ZipInfo, seen: set[str]) -> None:
    name = info.filename
    if name not in (MANIFEST_FILE, SIGNATURE_FILE):
        check_file_name("an entry of the archive", name)
    # zipfile cuts a name off at a NUL, and another reader may not.
    if info.orig_filename != name:
        raise _damaged(f"the name {info.orig_filename!r} is not what it seems")
    if name in seen:
        raise _damaged(f"{name!r} stands in it twice")
    mode = info.external_attr >> 16
    if info.is_dir() or (info.create_system == _UNIX and stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
        raise _damaged(f"{name!r} is no regular file")
    if info.flag_bits & _ENCRYPTED:
        raise _damaged(f"{name!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _damaged(f"{name!r} is compressed in another way than deflate")


def _damaged(reason: str) -> VerificationError:
    return VerificationError(f"the archive cannot be read: {reason}", hint=COPY_AGAIN)
