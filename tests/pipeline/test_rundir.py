"""A run directory survives being killed, refuses what is not its own, and deletes only what it made."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pocketformer.pipeline.rundir import RunDirectory, clean, read_run
from pocketformer.runtime.errors import RunDirectoryError


def _open(path: Path, recipe_id: str = "a", *, force: bool = False) -> RunDirectory:
    return RunDirectory.open(path, recipe_id=recipe_id, force=force)


def _finished_run(path: Path, recipe_id: str = "a") -> None:
    directory = _open(path, recipe_id)
    directory.write_json("run.json", {"recipe_id": recipe_id})
    directory.close()


def test_a_stage_exists_whole_or_not_at_all(tmp_path: Path) -> None:
    directory = _open(tmp_path / "run")

    def killed_half_way() -> None:
        with directory.writing_stage(1, "prune") as folder:
            (folder / "half").write_text("x")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        killed_half_way()
    assert not directory.stage_path(1, "prune").exists()
    with directory.writing_stage(1, "prune") as folder:
        (folder / "stage.json").write_text(json.dumps({"key": "k"}))
    assert directory.finished_stage(1, "prune", "k") == {"key": "k"}
    assert directory.finished_stage(1, "prune", "other") is None
    directory.close()


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match=r"not empty.*thesis\.tex"):
        _open(tmp_path)
    directory = _open(tmp_path, force=True)
    directory.write_json("run.json", {"recipe_id": "a"})
    directory.close()
    clean(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_recipe_is_refused_without_force(tmp_path: Path) -> None:
    _finished_run(tmp_path / "run", "a")
    _open(tmp_path / "run", "a").close()
    with pytest.raises(RunDirectoryError, match="other settings"):
        _open(tmp_path / "run", "b")
    _open(tmp_path / "run", "b", force=True).close()


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(RunDirectoryError, match="is a file"):
        _open(tmp_path / "out")


def test_the_lock_names_its_owner_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "run"
    code = (
        "import sys, time; from pathlib import Path; from pocketformer.pipeline.rundir import RunDirectory;"
        f"d = RunDirectory.open(Path({str(path)!r}), recipe_id='a', force=False); print('held', flush=True);"
        "time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(RunDirectoryError, match=f"in use by process {holder.pid}"):
            _open(path)
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()
    deadline = time.monotonic() + 5
    while True:
        try:
            _open(path).close()
            break
        except RunDirectoryError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    directory = _open(tmp_path / "run")
    (tmp_path / "run/stages/.02-distill.tmp").mkdir()
    (tmp_path / "run/stages/05-bench").mkdir()
    (tmp_path / "run/stages/notes").mkdir()
    directory.drop_stages_after(3)
    assert sorted(p.name for p in (tmp_path / "run/stages").iterdir()) == ["notes"]
    directory.close()
    assert read_run(tmp_path / "run") is None


def test_clean_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        clean(tmp_path)
