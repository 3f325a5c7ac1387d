"""Write a bundle as one file (.pfz): a ZIP that ``runtime.archive`` reads, the same bytes for the same bundle.

Entries stand in the order of their names, with one date, so that an archive made twice has one hash. (Its deflate
streams are zlib's: another build of zlib may write others for the same files.)
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from pathlib import Path

from pocketformer.export.signing import checked_manifest, read_private_key
from pocketformer.runtime.contents import ARCHIVE_SUFFIX, Folder, MissingFileError
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.limits import LARGEST_FILE
from pocketformer.runtime.manifest import MANIFEST_FILE, Manifest
from pocketformer.runtime.signature import SIGNATURE_BYTES, SIGNATURE_FILE

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a ZIP can say
_REGULAR_FILE = 0o100644 << 16
_UNIX = 3


def write_archive(bundle: Path, output: Path, private_key: Path | None = None) -> None:
    """Write the bundle in the directory ``bundle`` as the archive ``output``, which is replaced when it exists.

    With ``private_key`` (Ed25519, PEM) manifest and archive are both signed; else a signature that the bundle has is
    carried along. Files that the manifest does not list stay behind. Raises ``InputError`` for a name that does not
    end in .pfz, else as ``sign_bundle``.
    """
    if output.suffix.lower() != ARCHIVE_SUFFIX:
        raise InputError(
            f"{output} does not end in {ARCHIVE_SUFFIX}", hint=f"Name it {output}{ARCHIVE_SUFFIX}."
        )
    signer = None if private_key is None else read_private_key(private_key)
    content = checked_manifest(bundle)
    contents = Folder(bundle)
    files = {name: contents.read(name, LARGEST_FILE) for name in Manifest.from_bytes(content).files}
    files[MANIFEST_FILE] = content
    if signer is not None:
        files[SIGNATURE_FILE] = signer.sign(content)
    else:
        with contextlib.suppress(MissingFileError):
            files[SIGNATURE_FILE] = contents.read(SIGNATURE_FILE, SIGNATURE_BYTES)
    packed = _zip(files, comment=bytes(SIGNATURE_BYTES if signer is not None else 0))
    if signer is not None:
        # Over everything before the comment, its length included.
        packed = packed[:-SIGNATURE_BYTES] + signer.sign(packed[:-SIGNATURE_BYTES])
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(packed)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def _zip(files: dict[str, bytes], *, comment: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.create_system = _UNIX
            entry.external_attr = _REGULAR_FILE
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name], compresslevel=9)
        archive.comment = comment
    return stream.getvalue()
