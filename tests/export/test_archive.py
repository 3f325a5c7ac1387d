"""Archives as they are written, and what the runtime makes of others."""

from __future__ import annotations

import io
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketformer.export.archive import write_archive
from pocketformer.export.signing import sign_bundle
from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.manifest import read_manifest
from pocketformer.runtime.model import load
from pocketformer.runtime.signature import SIGNATURE_FILE
from pocketformer.runtime.verify import verify


@pytest.fixture
def archive(small_bundle: Path, tmp_path: Path) -> Path:
    write_archive(small_bundle, tmp_path / "a.pfz")
    return tmp_path / "a.pfz"


@pytest.fixture
def signed(small_bundle: Path, key_pair: tuple[Path, Path], tmp_path: Path) -> Path:
    write_archive(small_bundle, tmp_path / "s.pfz", key_pair[0])
    return tmp_path / "s.pfz"


def test_an_archive_answers_like_its_bundle(archive: Path, small_bundle: Path) -> None:
    assert load(archive).predict_one("the old king ?") == load(small_bundle).predict_one("the old king ?")
    assert read_manifest(archive) == read_manifest(small_bundle)
    assert [check.name for check in verify(archive).checks] == [c.name for c in verify(small_bundle).checks]
    assert verify(archive).ok
    assert list(archive.parent.iterdir()) == [archive]  # nothing was unpacked beside it


def test_the_same_bundle_gives_the_same_bytes(archive: Path, small_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_bundle, tmp_path / "copy"))
    for path in copy.iterdir():
        path.touch()
    (copy / "not-listed.txt").write_text("stays behind", encoding="utf-8")
    write_archive(copy, tmp_path / "again.pfz")
    assert (tmp_path / "again.pfz").read_bytes() == archive.read_bytes()


def test_a_signed_archive(signed: Path, archive: Path, key_pair: tuple[Path, Path]) -> None:
    public = key_pair[1]
    assert verify(signed, key=public).ok
    assert verify(signed, key=public).checks[0].name == "signature"
    assert load(signed, key=public).predict_one("a cat").label == load(signed).predict_one("a cat").label
    unpacked = signed.parent / "unpacked"
    with zipfile.ZipFile(signed) as opened:  # any ZIP program takes it
        assert opened.testzip() is None
        assert len(opened.comment) == 64
        opened.extractall(unpacked)
    assert verify(unpacked, key=public).ok
    report = verify(archive, key=public)
    assert [(check.name, check.ok) for check in report.checks] == [("signature", False)]
    assert "not signed" in report.checks[0].detail


def test_a_signed_bundle_keeps_its_signature(
    small_bundle: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(small_bundle, tmp_path / "bundle"))
    sign_bundle(bundle, key_pair[0])
    write_archive(bundle, tmp_path / "b.pfz")
    with zipfile.ZipFile(tmp_path / "b.pfz") as opened:
        assert opened.read(SIGNATURE_FILE) == (bundle / SIGNATURE_FILE).read_bytes()


def test_every_byte_of_a_signed_archive_counts(signed: Path, key_pair: tuple[Path, Path]) -> None:
    content = signed.read_bytes()
    step = max(1, len(content) // 40)
    for at in [*range(0, len(content), step), len(content) - 70, len(content) - 65, len(content) - 1]:
        changed = bytearray(content)
        changed[at] ^= 1
        signed.write_bytes(changed)
        assert [check.name for check in verify(signed, key=key_pair[1]).checks] == ["signature"], at
    for other in (content[:-1], content + b"\0", b"", content[:64], content[-64:]):
        signed.write_bytes(other)
        assert not verify(signed, key=key_pair[1]).ok


def test_names_that_are_none(small_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not end in \.pfz"):
        write_archive(small_bundle, tmp_path / "a.zip")
    for action in (load, verify, read_manifest):
        with pytest.raises(InputError, match="no bundle at"):
            action(tmp_path / "absent.pfz")


def rewritten(
    archive: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None], last: Any = None
) -> None:
    """Write the archive anew, an entry at a time, as ``change`` wants it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            change(new, info, old.read(info))
        if last is not None:
            last(new)
    archive.write_bytes(stream.getvalue())


def keep(new: zipfile.ZipFile, info: zipfile.ZipInfo, content: bytes) -> None:
    new.writestr(info, content)


def add(name: str, *, mode: int = stat.S_IFREG | 0o644, **fields: Any) -> Callable[[zipfile.ZipFile], None]:
    def last(new: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, mode << 16
        for field, value in fields.items():
            setattr(info, field, value)
        new.writestr(info, b"content")

    return last


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("last", "message"),
    [
        (add("../outside.txt"), "path inside the bundle"),
        (add("/etc/passwd"), "path inside the bundle"),
        (add("a/../b"), "path inside the bundle"),
        (add("a\\b"), "path inside the bundle"),
        (add("C:x"), "path inside the bundle"),
        (add("link", mode=stat.S_IFLNK | 0o777), "no regular file"),
        (add("pipe", mode=stat.S_IFIFO | 0o644), "no regular file"),
        (add("folder/", mode=stat.S_IFDIR | 0o755), "path inside the bundle"),
        (add("model.onnx"), "stands in it twice"),
        (add("packed", compress_type=zipfile.ZIP_BZIP2), "another way than deflate"),
    ],
)
def test_entries_that_no_bundle_has(archive: Path, last: Any, message: str) -> None:
    rewritten(archive, keep, last)
    with pytest.raises(VerificationError, match=message) as caught:
        load(archive)
    assert str(archive) in caught.value.message
    report = verify(archive)
    assert [(check.name, check.ok) for check in report.checks] == [("manifest", False)]


def test_encrypted_entries(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(VerificationError, match="encrypted"):
        load(archive)


def test_a_bomb_is_measured_before_it_goes_off(archive: Path) -> None:
    def huge(new: zipfile.ZipFile, info: zipfile.ZipInfo, content: bytes) -> None:
        new.writestr(info, bytes(200 * 2**20) if info.filename == "golden.jsonl" else content)

    rewritten(archive, huge)
    with pytest.raises(VerificationError, match=r"golden\.jsonl has 209715200 bytes, its manifest says"):
        load(archive)


def test_a_directory_that_lies_about_sizes(archive: Path) -> None:
    """The stream holds more, or less, than the directory says: neither is unpacked beyond it."""
    with zipfile.ZipFile(archive) as opened:
        size = opened.getinfo("README.md").file_size
    content = archive.read_bytes()
    at = content.rindex(b"README.md") - 46  # the last time is in the central directory
    assert content[at : at + 4] == b"PK\x01\x02"
    for wrong in (size - 1, size + 1):
        changed = bytearray(content)
        changed[at + 24 : at + 28] = wrong.to_bytes(4, "little")
        archive.write_bytes(changed)
        assert not verify(archive).ok
        with pytest.raises(VerificationError, match=r"README\.md has"):
            load(archive)


def test_what_stands_around_the_zip(archive: Path) -> None:
    content = archive.read_bytes()
    for other in (
        b"#!/bin/sh\n" + content,
        content + b"tail",
        content[:-2] + b"\4\0tail",
        b"",
        b"PK",
        content[:-1],
    ):
        archive.write_bytes(other)
        with pytest.raises(VerificationError, match="archive cannot be read"):
            load(archive)


def test_entries_on_top_of_one_another(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    archive.write_bytes(content)
    with pytest.raises(VerificationError, match="lies inside"):
        load(archive)


def test_a_damaged_stream(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    assert not verify(archive).ok


def test_more_entries_than_a_bundle_may_have(archive: Path) -> None:
    def last(new: zipfile.ZipFile) -> None:
        for index in range(1002):
            new.writestr(f"f{index}", b"")

    rewritten(archive, keep, last)
    with pytest.raises(VerificationError, match="its directory has"):
        load(archive)
