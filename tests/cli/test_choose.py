"""``choose`` before anything is made: what it says where there is no search."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_a_directory_without_a_search_is_told_how_to_make_one(
    cli: Any, run_dir: Path, tmp_path: Path
) -> None:
    outcome = cli("choose", run_dir, "--max-drop", "2%", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "holds no search" in outcome.err
    assert "--search" in outcome.err
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_is_said_so(cli: Any, tmp_path: Path) -> None:
    outcome = cli("choose", tmp_path, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert not (tmp_path / "out").exists()
