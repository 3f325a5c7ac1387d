from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pocketformer.export.signing import sign_bundle
from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.signature import SIGNATURE_FILE
from pocketformer.runtime.verify import verify


@pytest.fixture
def bundle(small_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


def test_signed_and_verified(bundle: Path, key_pair: tuple[Path, Path]) -> None:
    private, public = key_pair
    sign_bundle(bundle, private)
    first = (bundle / SIGNATURE_FILE).read_bytes()
    assert len(first) == 64
    assert verify(bundle, key=public).ok
    sign_bundle(bundle, private)
    assert (bundle / SIGNATURE_FILE).read_bytes() == first
    assert not list(bundle.glob(".*"))


def test_openssl_takes_the_signature(bundle: Path, key_pair: tuple[Path, Path]) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    private, public = key_pair
    sign_bundle(bundle, private)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
    command += ["-in", str(bundle / "manifest.json"), "-sigfile", str(bundle / SIGNATURE_FILE)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_bundle_that_is_not_whole_is_not_signed(bundle: Path, key_pair: tuple[Path, Path]) -> None:
    (bundle / "README.md").write_text("changed", encoding="utf-8")
    with pytest.raises(VerificationError, match=r"is not signed: README\.md has"):
        sign_bundle(bundle, key_pair[0])
    assert not (bundle / SIGNATURE_FILE).exists()
    with pytest.raises(InputError, match="no bundle"):
        sign_bundle(bundle / "absent", key_pair[0])


def test_keys_that_cannot_sign(bundle: Path, key_pair: tuple[Path, Path], tmp_path: Path) -> None:
    def write(name: str, key: object, encryption: object) -> Path:
        pem, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (tmp_path / name).write_bytes(key.private_bytes(pem, kind, encryption))  # type: ignore[attr-defined]
        return tmp_path / name

    locked = serialization.BestAvailableEncryption(b"secret")
    wrong = {
        key_pair[1]: "a public key",
        write(
            "ec.pem", ec.generate_private_key(ec.SECP256R1()), serialization.NoEncryption()
        ): "no Ed25519 key",
        write("locked.pem", Ed25519PrivateKey.generate(), locked): "passphrase",
        bundle / "README.md": "no private key",
        tmp_path / "absent.pem": "cannot be read",
    }
    for key, message in wrong.items():
        with pytest.raises(InputError, match=message):
            sign_bundle(bundle, key)
    assert not (bundle / SIGNATURE_FILE).exists()
