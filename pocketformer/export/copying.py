"""Copy a bundle that may come from a stranger: the files that its manifest lists, and nothing else."""

from __future__ import annotations

from pathlib import Path

from pocketformer.runtime.contents import COPY_AGAIN, MissingFileError
from pocketformer.runtime.errors import VerificationError
from pocketformer.runtime.limits import LARGEST_MANIFEST
from pocketformer.runtime.manifest import MANIFEST_FILE
from pocketformer.runtime.opening import hash_files, open_bundle
from pocketformer.runtime.signature import SIGNATURE_BYTES, SIGNATURE_FILE


def copy_bundle(source: Path, output: Path) -> None:
    """Write the bundle at ``source``, a directory or an archive, into the new directory ``output``.

    Its signature goes with it. Raises ``InputError`` when there is no bundle, ``VerificationError`` when a file is not
    as the manifest says: no link is followed out of it.
    """
    manifest, contents = open_bundle(source)
    _, wrong = hash_files(contents, manifest, hold=False)
    if wrong:
        raise VerificationError(f"{source}: {wrong[0]}", hint=COPY_AGAIN)
    output.mkdir(parents=True)
    copies = {name: entry.bytes for name, entry in manifest.files.items()}
    for name, most in {**copies, MANIFEST_FILE: LARGEST_MANIFEST, SIGNATURE_FILE: SIGNATURE_BYTES}.items():
        try:
            content = contents.read(name, most)
        except MissingFileError:
            if name == SIGNATURE_FILE:  # most bundles have none
                continue
            raise
        place = output / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
