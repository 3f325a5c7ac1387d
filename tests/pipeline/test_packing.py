"""From a bundle, or the run that has one, to what is handed over."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pocketformer.cli import run_command
from pocketformer.export.hosts import HOSTS, Host
from pocketformer.pipeline import packing
from pocketformer.pipeline.packing import bundle_of, pack
from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.verify import verify


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "sources" / "page").mkdir(parents=True)
    (tmp_path / "sources" / "page" / "index.html").write_text("<title>")
    host = Host(name="page", summary="a page", folders=("page",))
    monkeypatch.setattr(packing, "host_by_name", lambda name: host)
    write = packing.write_app
    monkeypatch.setattr(
        packing,
        "write_app",
        lambda host, bundle, output: write(host, bundle, output, sources=tmp_path / "sources"),
    )
    return host


def test_an_app_holds_the_bundle_as_it_is(small_bundle: Path, tmp_path: Path, host: Host) -> None:
    app = pack(small_bundle, tmp_path / "app", host="page")
    assert (app / "index.html").read_text() == "<title>"
    assert verify(app / "model").ok
    with pytest.raises(InputError, match="exists already"):
        pack(small_bundle, app, host="page", force=True)  # somebody may have worked in it


def test_force_replaces_a_bundle_and_nothing_else(small_bundle: Path, tmp_path: Path) -> None:
    copy = pack(small_bundle, tmp_path / "copy")
    assert verify(copy).ok
    with pytest.raises(InputError, match="--force"):
        pack(small_bundle, copy)
    (copy / "stale").write_text("")
    pack(small_bundle, copy, force=True)
    assert not (copy / "stale").exists()
    assert verify(copy).ok
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="exists already"):
        pack(small_bundle, tmp_path / "mine", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "mine"]


def test_help_names_every_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bundle", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(host.name in shown for host in HOSTS)


def test_archives_are_packed_and_unpacked(small_bundle: Path, tmp_path: Path) -> None:
    archive = pack(small_bundle, tmp_path / "small.pfz", archive=True)
    assert verify(archive).ok
    again = pack(archive, tmp_path / "again")
    assert verify(again).ok
    listed = {p.relative_to(again).as_posix() for p in again.rglob("*") if p.is_file()}
    assert listed == {p.relative_to(small_bundle).as_posix() for p in small_bundle.rglob("*") if p.is_file()}


def test_a_damaged_bundle_is_not_handed_on(small_bundle: Path, tmp_path: Path, host: Host) -> None:
    """And no link is followed out of it."""
    damaged = tmp_path / "damaged"
    shutil.copytree(small_bundle, damaged)
    (tmp_path / "outside.json").write_bytes((damaged / "tokenizer.json").read_bytes())
    (damaged / "tokenizer.json").unlink()
    (damaged / "tokenizer.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(VerificationError, match="symbolic link"):
        pack(damaged, tmp_path / "app", host="page")
    copy = pack(small_bundle, tmp_path / "copy")
    graph = copy / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(VerificationError, match="another SHA-256"):
        pack(copy, tmp_path / "app", host="page")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name not in ("sources", "outside.json")) == [
        "copy",
        "damaged",
    ]


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a bundle nor a run"):
        bundle_of(tmp_path)
    (tmp_path / "run.json").write_text('{"recipe_id": "x", "artefacts": {}}')
    with pytest.raises(InputError, match="has no bundle yet"):
        pack(tmp_path, tmp_path / "out", archive=True)
    assert run_command(["bundle", str(tmp_path), "--for", "toaster", "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
