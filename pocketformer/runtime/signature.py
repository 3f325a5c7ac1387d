"""Whether a bundle was signed by the holder of a key: Ed25519 (RFC 8032) over the raw bytes of the manifest.

The manifest holds the SHA-256 of every other file, so its signature vouches for all of them. The key comes from outside
the bundle, always: a key that travels with what it is to prove proves nothing. ``cryptography`` does the arithmetic and
is imported only when a key is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from pocketformer.runtime.errors import InputError, MissingDependencyError, VerificationError
from pocketformer.runtime.manifest_fields import SIGNATURE_FILE as SIGNATURE_FILE

SIGNATURE_BYTES = 64
INSTALL = 'pip install "pocketformer[sign]"'

# A public key as PEM: the path of its file, or the bytes of that file for an app that carries it.
Key = Union[str, Path, bytes]

_LARGEST_KEY = 2**16
_WANTED = "Give the signer's public key as PEM: openssl pkey -in PRIVATE.pem -pubout -out PUBLIC.pem"


class PublicKey:
    """An Ed25519 public key.

    Raises ``InputError`` when ``key`` cannot be read or is no such key, ``MissingDependencyError`` without
    ``cryptography``.
    """

    def __init__(self, key: Key) -> None:
        where = "the key" if isinstance(key, bytes) else str(key)
        content = read_key(key)
        if b"PRIVATE KEY" in content:
            raise InputError(
                f"{where} holds a private key; to check a signature the public one is needed",
                hint=f"Keep the private one where you sign. {_WANTED}",
            )
        serialization, ed25519 = import_cryptography()
        try:
            public = serialization.load_pem_public_key(content)
        except Exception as error:  # ValueError, UnsupportedAlgorithm, and what else OpenSSL has to say
            raise InputError(f"{where} is no public key in PEM", hint=_WANTED) from error
        if not isinstance(public, ed25519.Ed25519PublicKey):
            kind = type(public).__name__.lstrip("_")
            raise InputError(f"{where} is no Ed25519 key but {kind}", hint=_WANTED)
        self._public: Any = public

    def check(self, signature: bytes, signed: bytes, what: str) -> None:
        """Return when ``signature`` is this key's over the bytes ``signed``; else ``VerificationError``."""
        from cryptography.exceptions import InvalidSignature

        if len(signature) != SIGNATURE_BYTES:
            raise VerificationError(
                f"the signature of {what} has {len(signature)} bytes instead of {SIGNATURE_BYTES}",
                hint=_UNSIGNED,
            )
        try:
            self._public.verify(signature, signed)
        except InvalidSignature as error:
            raise VerificationError(
                f"the signature of {what} is not that of this key over these bytes",
                hint="It was changed after signing, or signed by somebody else. Do not use it.",
            ) from error


_UNSIGNED = "Ask for a signed bundle (`pocketformer bundle --sign KEY`), or check without a key."


def unsigned(what: str) -> VerificationError:
    """The error for a bundle without a signature where a key was given."""
    return VerificationError(f"{what}: it is not signed", hint=_UNSIGNED)


def read_key(key: Key) -> bytes:
    """The bytes of a key's file; ``InputError`` when it cannot be read or is far too large for a key."""
    if isinstance(key, bytes):
        return key
    try:
        with Path(key).open("rb") as stream:
            content = stream.read(_LARGEST_KEY + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the key {key} cannot be read: {reason}", hint="Give the path of a PEM file."
        ) from error
    if len(content) > _LARGEST_KEY:
        raise InputError(f"{key} is too large for a key", hint="Give the path of a PEM file.")
    return content


def import_cryptography() -> tuple[Any, Any]:
    """Its modules ``serialization`` and ``ed25519``; ``MissingDependencyError`` when it is not installed."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingDependencyError(
            f"signatures need the package cryptography: {error}", hint=f"Install it: {INSTALL}."
        ) from error
    return serialization, ed25519
