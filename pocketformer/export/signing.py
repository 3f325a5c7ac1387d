"""Sign a bundle with an Ed25519 key (RFC 8032), so that a device can tell whose it is and that nothing was changed.

The signature is detached: 64 bytes over the raw bytes of the manifest, which holds the SHA-256 of every other file.
Keys are those of ``openssl genpkey -algorithm ed25519``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pocketformer.runtime.contents import Folder
from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.manifest import Manifest
from pocketformer.runtime.opening import check_graph, hash_files, manifest_bytes
from pocketformer.runtime.signature import SIGNATURE_FILE, import_cryptography, read_key

_MAKE_ONE = "Make one: openssl genpkey -algorithm ed25519 -out PRIVATE.pem"


def sign_bundle(folder: Path, private_key: Path) -> None:
    """Write the signature of the bundle in ``folder`` beside its manifest, in place of an earlier one.

    Raises ``VerificationError`` for a bundle whose files are not those that its manifest lists, ``InputError`` when
    there is no bundle or no private Ed25519 key, ``MissingDependencyError`` without ``cryptography``.
    """
    signer = read_private_key(private_key)
    write_signature(folder, signer.sign(checked_manifest(folder)))


def checked_manifest(folder: Path) -> bytes:
    """The manifest's bytes, once all files were held to them; ``VerificationError`` names the first that differs."""
    contents = Folder(folder)
    content = manifest_bytes(contents, None)
    try:
        manifest = Manifest.from_bytes(content)
        _, wrong = hash_files(contents, manifest, hold=False)
        if wrong:
            raise VerificationError(
                wrong[0], hint="Sign a bundle as it was written; `pocketformer verify` checks it."
            )
        check_graph(contents, manifest)
    except VerificationError as error:
        raise VerificationError(f"{folder} is not signed: {error.message}", hint=error.hint) from error
    return content


def write_signature(folder: Path, signature: bytes) -> None:
    """Put the signature into the bundle, whole or not at all."""
    partial = folder / f".{SIGNATURE_FILE}.partial"
    try:
        partial.write_bytes(signature)
        partial.replace(folder / SIGNATURE_FILE)
    finally:
        partial.unlink(missing_ok=True)


def read_private_key(path: Path) -> Any:
    """The Ed25519 private key in the PEM file ``path``, of ``cryptography``; ``InputError`` when it holds none."""
    content = read_key(path)
    serialization, ed25519 = import_cryptography()
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise InputError(
            f"{path} is protected by a passphrase",
            hint="Take it off: openssl pkey -in KEY.pem -out PRIVATE.pem",
        ) from error
    except Exception as error:  # ValueError, UnsupportedAlgorithm, and what else OpenSSL has to say
        public = b"PUBLIC KEY" in content
        what = (
            "holds a public key; to sign, the private one is needed" if public else "is no private key in PEM"
        )
        raise InputError(f"{path} {what}", hint=_MAKE_ONE) from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        kind = type(private).__name__.lstrip("_")
        raise InputError(f"{path} is no Ed25519 key but {kind}", hint=_MAKE_ONE)
    return private
