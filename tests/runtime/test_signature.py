from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pocketformer.runtime import opening
from pocketformer.runtime.contents import Folder
from pocketformer.runtime.errors import InputError, MissingDependencyError, VerificationError
from pocketformer.runtime.manifest import MANIFEST_FILE, Manifest, read_manifest
from pocketformer.runtime.model import Model, load
from pocketformer.runtime.signature import SIGNATURE_BYTES, SIGNATURE_FILE, PublicKey
from pocketformer.runtime.verify import verify


@pytest.fixture
def signed(bundle: Path, key_pair: tuple[Path, Path]) -> Path:
    """Signed by hand: the writer is tested in its own room."""
    private: Any = serialization.load_pem_private_key(key_pair[0].read_bytes(), None)
    (bundle / SIGNATURE_FILE).write_bytes(private.sign((bundle / MANIFEST_FILE).read_bytes()))
    return bundle


@pytest.fixture
def public(key_pair: tuple[Path, Path]) -> Path:
    return key_pair[1]


def names(bundle: Path, key: Any) -> list[str]:
    return [check.name for check in verify(bundle, key=key).checks]


def test_a_signed_bundle(signed: Path, public: Path, tiny_runtime: Model) -> None:
    report = verify(signed, key=public)
    assert report.ok
    assert [check.name for check in report.checks] == [
        "signature", "manifest", "files", "golden", "load", "tokenizer", "logits", "labels",
    ]  # fmt: skip
    for key in (public, str(public), public.read_bytes()):
        assert load(signed, key=key).predict_one("cat dog") == tiny_runtime.predict_one("cat dog")
    assert read_manifest(signed, key=public) == read_manifest(signed)
    assert names(signed, None)[0] == "manifest"


def test_bytes_that_rfc_8032_signs(tmp_path: Path) -> None:
    """Section 7.1, TEST 2: one byte, 0x72."""
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    import base64

    der = bytes.fromhex("302a300506032b6570032100") + public
    key = PublicKey(b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der) + b"\n-----END PUBLIC KEY-----\n")
    key.check(signature, b"\x72", "it")
    with pytest.raises(VerificationError, match="not that of this key"):
        key.check(signature, b"\x73", "it")


def test_what_is_not_signed_with_the_key(signed: Path, public: Path) -> None:
    other = Ed25519PrivateKey.generate().public_key()
    pem = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    report = verify(signed, key=pem)
    assert [check.name for check in report.checks] == ["signature"]
    assert "not that of this key" in report.checks[0].detail
    with pytest.raises(VerificationError, match="not that of this key") as caught:
        load(signed, key=pem)
    assert str(signed) in caught.value.message
    for content in (b"", bytes(SIGNATURE_BYTES - 1), bytes(SIGNATURE_BYTES), bytes(SIGNATURE_BYTES + 1)):
        (signed / SIGNATURE_FILE).write_bytes(content)
        assert names(signed, public) == ["signature"]
    (signed / SIGNATURE_FILE).unlink()
    assert "not signed" in verify(signed, key=public).checks[0].detail
    with pytest.raises(VerificationError, match="not signed"):
        load(signed, key=public)


def test_nothing_is_parsed_before_the_signature_holds(
    signed: Path, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (signed / MANIFEST_FILE).write_bytes((signed / MANIFEST_FILE).read_bytes() + b" ")

    def parsed(*arguments: Any) -> Any:
        raise AssertionError("the manifest was parsed")

    monkeypatch.setattr(Manifest, "from_json", parsed)
    with pytest.raises(VerificationError):
        load(signed, key=public)
    assert names(signed, public) == ["signature"]
    with pytest.raises(VerificationError):
        read_manifest(signed, key=public)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "golden.jsonl"])
def test_load_holds_every_file_to_its_hash(signed: Path, public: Path, name: str) -> None:
    content = bytearray((signed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (signed / name).write_bytes(content)
    with pytest.raises(VerificationError, match=f"{name} has another SHA-256"):
        load(signed, key=public)
    assert names(signed, public) == ["signature", "manifest", "files"]


def test_the_bytes_that_were_hashed_are_used(
    signed: Path, public: Path, tiny_runtime: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file is exchanged the moment that the last one was hashed."""
    real: Callable[..., Any] = opening.hash_files

    def exchanged(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        for path in signed.iterdir():
            path.write_bytes(b"exchanged")
        return found

    monkeypatch.setattr(opening, "hash_files", exchanged)
    assert load(signed, key=public).predict_one("cat dog") == tiny_runtime.predict_one("cat dog")


def test_an_engine_of_tensorrt_stays_a_file(bundle: Path) -> None:
    (bundle / "model.onnx").rename(bundle / "model.engine")
    manifest = read_manifest(bundle)
    files = {name.replace(".onnx", ".engine"): entry for name, entry in manifest.files.items()}
    built = replace(manifest, graph="model.engine", files=files)
    held, wrong = opening.hash_files(Folder(bundle), built, hold=True)
    assert wrong == []
    assert held.file("model.engine") == bundle / "model.engine"
    assert held.file("tokenizer.json") is None
    assert opening.graph_content(held, built) is None
    assert opening.wrong_sizes(held, built, opening.needed_files(built)) == []


def test_keys_that_are_none(signed: Path, key_pair: tuple[Path, Path], tmp_path: Path) -> None:
    pem, info = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    file = tmp_path / "key.pem"
    file.write_bytes(rsa.generate_private_key(65537, 2048).public_key().public_bytes(pem, info))
    wrong = {
        key_pair[0]: "a private key",
        file: "no Ed25519 key but RSAPublicKey",
        tmp_path / "absent.pem": "cannot be read",
        tmp_path: "cannot be read",
        b"not a key": "no public key in PEM",
        signed / "model.onnx": "too large|no public key",
    }
    for key, message in wrong.items():
        for action in (load, verify, read_manifest):
            with pytest.raises(InputError, match=message) as caught:
                action(signed, key=key)
            assert caught.value.exit_code == 2


def test_without_cryptography(signed: Path, public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "cryptography":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingDependencyError, match="cryptography") as caught:
        verify(signed, key=public)
    assert caught.value.exit_code == 4
    assert verify(signed).ok


def test_load_without_a_key_imports_no_cryptography(signed: Path) -> None:
    program = (
        "import sys, pocketformer\n"
        f"pocketformer.load({str(signed)!r})\n"
        "assert not {'cryptography', 'zipfile', 'hashlib'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_signature_that_is_a_link(signed: Path, public: Path, tmp_path: Path) -> None:
    shutil.move(signed / SIGNATURE_FILE, tmp_path / "elsewhere")
    (signed / SIGNATURE_FILE).symlink_to(tmp_path / "elsewhere")
    report = verify(signed, key=public)
    assert "symbolic link" in report.checks[0].detail
    assert not report.ok


def test_the_key_is_not_taken_from_the_bundle(signed: Path, public: Path) -> None:
    """Whatever the manifest says of keys is passed over."""
    path = signed / MANIFEST_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    document["public_key"] = public.read_text(encoding="utf-8")
    path.write_text(json.dumps(document), encoding="utf-8")
    assert names(signed, public) == ["signature"]
