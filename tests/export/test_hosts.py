"""An app's folder: sources laid over each other, with the bundle inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketformer.export.hosts import HOSTS, SOURCES, Host, host_by_name, write_app
from pocketformer.runtime.errors import InputError


def _file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    root = tmp_path / "sources"
    _file(root / "shared" / "core.js", "shared")
    _file(root / "shared" / "README.md", "of the core")
    _file(root / "page" / "README.md", "of the page")
    _file(root / "page" / "node_modules" / "x" / "index.js", "not ours")
    _file(root / "page" / ".cache", "not ours")
    return root


def test_folders_are_laid_over_each_other_with_the_bundle_inside(tmp_path: Path, sources: Path) -> None:
    _file(tmp_path / "bundle" / "manifest.json", "{}")
    host = Host(name="page", summary="", folders=("shared", "page"), model="assets/model")
    app = write_app(host, tmp_path / "bundle", tmp_path / "new" / "app", sources=sources)
    written = {p.relative_to(app).as_posix(): p.read_text() for p in app.rglob("*") if p.is_file()}
    assert written == {"core.js": "shared", "README.md": "of the page", "assets/model/manifest.json": "{}"}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["app"]
    with pytest.raises(InputError, match="exists already"):
        write_app(host, tmp_path / "bundle", app, sources=sources)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, sources: Path) -> None:
    host = Host(name="page", summary="", folders=("missing",))
    with pytest.raises(FileNotFoundError):
        write_app(host, tmp_path / "bundle", tmp_path / "new" / "app", sources=sources)
    assert not list((tmp_path / "new").iterdir())


def test_hosts_are_found_by_name() -> None:
    for host in HOSTS:
        assert host_by_name(host.name) is host
        assert all((SOURCES / folder).is_dir() for folder in host.folders)
    with pytest.raises(InputError, match="no host 'toaster'"):
        host_by_name("toaster")
