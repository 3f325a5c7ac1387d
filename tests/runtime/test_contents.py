from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocketformer.runtime.contents import Contents, Folder, HeldFiles, MissingFileError
from pocketformer.runtime.errors import InputError, VerificationError

CONTENT = bytes(range(256)) * 5000  # more than one block


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "file").write_bytes(CONTENT)
    (place / "empty").write_bytes(b"")
    return place


@pytest.mark.parametrize("held", [False, True])
def test_files_on_disk_and_in_memory(folder: Path, held: bool) -> None:
    contents: Contents = Folder(folder)
    if held:
        contents = HeldFiles(folder, {"sub/file": CONTENT, "empty": b""})
    assert contents.size("sub/file") == len(CONTENT)
    assert contents.read("sub/file", len(CONTENT)) == b"".join(contents.blocks("sub/file")) == CONTENT
    assert contents.read("empty", 0) == b""
    for name in ("sub/file", "empty"):
        with contents.view(name) as view:
            assert bytes(view[:]) == contents.read(name, len(CONTENT))
    assert contents.file("empty") == (None if held else folder / "empty")
    with pytest.raises(VerificationError, match=r"sub/file has 1280000 bytes, more than the 1279999 allowed"):
        contents.read("sub/file", len(CONTENT) - 1)
    with pytest.raises(MissingFileError, match="absent is missing"):
        contents.size("absent")


def test_a_folder_that_is_a_link_is_the_users_own(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert Folder(tmp_path / "link").read("empty", 0) == b""
    for absent in (tmp_path / "absent", folder / "empty", Path("nul\0byte")):
        with pytest.raises(InputError, match="no bundle at"):
            Folder(absent)


def test_what_is_no_regular_file_in_the_bundle(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "outside" / "file")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "dangling").symlink_to(tmp_path / "absent")
    (folder / "inside").symlink_to("empty")
    os.mkfifo(folder / "pipe")
    contents = Folder(folder)
    wrong = {
        "link": "a symbolic link",
        "dangling": "a symbolic link",
        "inside": "a symbolic link",
        "linked/file": "lies below linked",
        "empty/file": "lies below empty",
        "pipe": "no regular file",
        "sub": "no regular file",
        "a" * 5000: "cannot be read",
        "nul\0byte": "cannot be read",
        "half\ud800": "cannot be read",
    }
    for name, reason in wrong.items():
        for action in (
            contents.size,
            lambda name: contents.read(name, 100),
            lambda name: list(contents.blocks(name)),
        ):
            with pytest.raises(VerificationError, match=reason):
                action(name)
        with pytest.raises(VerificationError, match=reason), contents.view(name):
            pass


PROGRAM = """
import sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from pathlib import Path
from pocketformer.runtime.contents import Folder
from pocketformer.runtime.errors import VerificationError
contents = Folder(sys.argv[1])
contents.read("empty", 0)
for name in sys.argv[3:]:
    try:
        contents.read(name, 100)
    except VerificationError:
        continue
    raise SystemExit(f"{name} was read")
assert any(path.endswith("/empty") for path in opened), opened
outside = [path for path in opened if sys.argv[2] in path or any(path.endswith("/" + n) for n in sys.argv[3:])]
assert not outside, outside
"""


def test_nothing_outside_is_opened(folder: Path, tmp_path: Path) -> None:
    """As Python's own audit hooks see it: neither the link nor what it leads to."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "outside" / "file")
    (folder / "linked").symlink_to(tmp_path / "outside")
    names = ["link", "linked/file"]
    command = [sys.executable, "-c", PROGRAM, str(folder), str(tmp_path / "outside"), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_that_is_exchanged_for_another_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def exchanging(path: str, *arguments: int) -> int:
        (folder / "new").write_bytes(b"")
        (folder / "new").replace(path)
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(VerificationError, match="was exchanged"):
        Folder(folder).read("empty", 0)
