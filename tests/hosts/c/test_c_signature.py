"""With a key: nothing is parsed before the signature holds, and nothing is used whose hash does not."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hosts.c.building import Program, tool


def _openssl(*arguments: str | Path) -> None:
    subprocess.run([tool("openssl"), *map(str, arguments)], check=True, capture_output=True)


def _key(folder: Path, name: str) -> Path:
    private, public = folder / f"{name}.pem", folder / f"{name}-public.pem"
    _openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    _openssl("pkey", "-in", private, "-pubout", "-out", public)
    return public


def _sign(bundle: Path, private: Path) -> None:
    manifest = bundle / "manifest.json"
    _openssl("pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", manifest, "-out", f"{manifest}.sig")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _key(tmp_path_factory.mktemp("keys"), "maker")


@pytest.fixture
def signed(small_bundle: Path, key: Path, tmp_path: Path) -> Path:
    bundle = tmp_path / "signed"
    shutil.copytree(small_bundle, bundle)
    _sign(bundle, key.with_name("maker.pem"))
    return bundle


def test_a_signed_bundle_holds(sanitized: Program, signed: Path, key: Path, tmp_path: Path) -> None:
    checks = sanitized.checks(signed, "--key", key)
    assert next(iter(checks.items())) == ("signature", "Ed25519, by the holder of the key")
    assert len(checks) == 8
    assert "signature" not in sanitized.checks(signed)
    (tmp_path / "texts.jsonl").write_text('{"text": "who"}\n')
    done = sanitized.run("answers", signed, tmp_path / "texts.jsonl", "--key", key)
    assert done.returncode == 0, done.stderr


def test_on_arm64(arm64: Program, signed: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "who"}\n')
    assert arm64.run("tokens", signed, tmp_path / "texts.jsonl", "--key", key).returncode == 0
    (signed / "manifest.json").write_bytes((signed / "manifest.json").read_bytes() + b" ")
    assert list(arm64.checks(signed, "--key", key, code=5)) == ["signature"]


def test_changed_bytes_are_refused(program: Program, signed: Path, key: Path, tmp_path: Path) -> None:
    """By verify and by load, whatever is changed; of the manifest not one byte is parsed."""
    rng = random.Random(4)
    (tmp_path / "texts.jsonl").write_text('{"text": "who"}\n')
    for name in ("model.onnx", "manifest.json", "tokenizer.json", "golden.jsonl", "manifest.json.sig"):
        whole = (signed / name).read_bytes()
        for _ in range(4):
            content = bytearray(whole)
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            (signed / name).write_bytes(content)
            checks = program.checks(signed, "--key", key, code=5)
            of_manifest = name.startswith("manifest")
            assert list(checks) == (["signature"] if of_manifest else ["signature", "manifest", "files"])
            done = program.run("answers", signed, tmp_path / "texts.jsonl", "--key", key)
            assert (done.returncode, done.stdout) == (5, "")
        (signed / name).write_bytes(whole)
    assert len(program.checks(signed, "--key", key)) == 8


def test_nothing_is_parsed_before_the_signature_holds(program: Program, signed: Path, key: Path) -> None:
    (signed / "manifest.json").write_text("no JSON")
    checks = program.checks(signed, "--key", key, code=5)
    assert list(checks) == ["signature"]
    assert "no signature of manifest.json" in checks["signature"]


def test_other_signatures_are_refused(program: Program, signed: Path, key: Path, tmp_path: Path) -> None:
    other = _key(tmp_path, "other")
    assert "no signature" in program.checks(signed, "--key", other, code=5)["signature"]
    signature = signed / "manifest.json.sig"
    signature.write_bytes(signature.read_bytes()[:63])
    assert "63 bytes, not 64" in program.checks(signed, "--key", key, code=5)["signature"]
    signature.write_bytes(bytes(65))
    assert "more than the 64" in program.checks(signed, "--key", key, code=5)["signature"]
    signature.unlink()
    assert "not signed" in program.checks(signed, "--key", key, code=5)["signature"]


def test_keys_and_libraries_that_are_not_there(
    program: Program, signed: Path, key: Path, tmp_path: Path
) -> None:
    done = program.run("verify", signed, "--key", key, POCKETFORMER_LIBCRYPTO="/nowhere.so")
    assert (done.returncode, "libcrypto cannot be opened" in done.stderr, done.stdout) == (4, True, "")
    assert program.run("verify", signed, "--key", tmp_path / "nowhere").returncode == 2
    _openssl("genpkey", "-algorithm", "x25519", "-out", tmp_path / "x.pem")
    _openssl("pkey", "-in", tmp_path / "x.pem", "-pubout", "-out", tmp_path / "x-public.pem")
    for no_key in (tmp_path / "x-public.pem", key.with_name("maker.pem"), signed / "README.md"):
        done = program.run("verify", signed, "--key", no_key)
        assert (done.returncode, "no Ed25519 public key" in done.stderr) == (2, True)
