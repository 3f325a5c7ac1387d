from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from evidence.kept import Kept, read_done
from evidence.table import EvidenceError


class Things(Kept):
    place = "things"


@pytest.fixture
def repository(tmp_path: Path) -> Any:
    stand_in = SimpleNamespace(root=tmp_path, key="key")
    stand_in.code_key = lambda: stand_in.key
    return stand_in


def test_a_run_is_made_once_and_kept(repository: Any) -> None:
    made: list[Path] = []

    def make(folder: Path) -> dict[str, Any]:
        assert not list(folder.iterdir())
        made.append(folder)
        (folder / "file").write_text("x")
        return {"seconds": 1.5}

    runs = Things(repository)
    assert runs.once("a", make)["seconds"] == 1.5
    runs.once("a", make)
    later = Things(repository)
    assert later.once("a", make)["seconds"] == 1.5
    assert len(made) == 1


def test_other_code_finds_no_kept_run(repository: Any) -> None:
    made: list[Path] = []

    def make(folder: Path) -> dict[str, Any]:
        made.append(folder)
        return {}

    Things(repository).once("a", make)
    repository.key = "other"
    runs = Things(repository)
    runs.once("a", make)
    assert len(made) == 2
    assert [path.name for path in runs.others()] == ["key"]


def test_a_run_that_was_cut_off_is_made_anew(repository: Any) -> None:
    def interrupted(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Things(repository).once("a", interrupted)

    def make(folder: Path) -> dict[str, Any]:
        assert not (folder / "half").exists()
        return {}

    Things(repository).once("a", make)


def test_a_failure_is_remembered_and_not_kept(repository: Any) -> None:
    tried: list[Path] = []

    def fail(folder: Path) -> dict[str, Any]:
        tried.append(folder)
        raise OSError("no network")

    runs = Things(repository)
    for _ in range(3):
        with pytest.raises(EvidenceError, match="a: no network"):
            runs.once("a", fail)
    assert len(tried) == 1
    assert read_done(runs.folder / "a") is None


@pytest.mark.parametrize("content", ["", "[]", "{", "{}"])
def test_a_damaged_record_is_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "done.json").write_text(content)
    assert read_done(tmp_path) is None
