"""Ctrl-C, SIGTERM, kill -9 and a full disk in any stage: said in a line, and the next run ends the same."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketformer import Recipe, load
from pocketformer.pipeline import run as run_module
from pocketformer.pipeline.steps import step_by_name

Fail = Callable[[], None]


def _failing(name: str, fail: Fail) -> Callable[[str], Any]:
    """Steps as they are, but one of them writes half of something and fails."""

    def stage(config: Any, context: Any, folder: Path) -> Any:
        (folder / "model").mkdir()
        (folder / "model" / "half").write_text("half")
        fail()
        raise AssertionError("not reached")

    def find(wanted: str) -> Any:
        step = step_by_name(wanted)
        return dataclasses.replace(step, function=stage) if wanted == name else step

    return find


def _same_result(first: Path, second: Path, texts: list[str]) -> bool:
    weights = "stages/04-vocabulary/model/model.safetensors"
    return (first / weights).read_bytes() == (second / weights).read_bytes() and load(
        first / "bundles/cpu"
    ).predict(texts) == load(second / "bundles/cpu").predict(texts)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_and_sigterm_in_every_stage(
    cli: Any,
    run_dir: Path,
    recipe_file: Path,
    tmp_path: Path,
    tiny_texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolved = tmp_path / "recipe.yaml"
    # The recipe that the first run resolved: which candidate is fastest is not measured anew.
    resolved.write_text((run_dir / "recipe.yaml").read_text())
    out = tmp_path / "out"
    names = [step.name for step in Recipe.from_file(resolved).steps]
    for number, name in enumerate(names):
        fail, code, word = [
            (_interrupt, 130, "Interrupted"),
            (_terminate, 143, "Terminated"),
        ][number % 2]
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "step_by_name", _failing(name, fail))
            outcome = cli("run", resolved, "-o", out)
        assert outcome.code == code, outcome.err
        assert word in outcome.err
        assert "goes on from the last finished stage" in outcome.err
        assert "Traceback" not in outcome.err
        assert outcome.err.count("reused") == max(0, number - 1)
        assert not (out / ".lock").exists()
        finished = [p.name for p in (out / "stages").iterdir() if not p.name.startswith(".")]
        assert len(finished) == number
    outcome = cli("run", resolved, "-o", out)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("reused") == len(names) - 1
    assert _same_result(run_dir, out, tiny_texts)


def test_kill_9_leaves_a_run_that_goes_on(
    cli: Any, run_dir: Path, tmp_path: Path, tiny_texts: list[str]
) -> None:
    out, resolved = tmp_path / "out", tmp_path / "recipe.yaml"
    resolved.write_text((run_dir / "recipe.yaml").read_text())
    code = (
        "import dataclasses, os, sys\n"
        "from pocketformer.cli import run_command\n"
        "from pocketformer.pipeline import run\n"
        "find = run.step_by_name\n"
        "def stage(config, context, folder):\n"
        "    (folder / 'half').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
        "run.step_by_name = lambda n: dataclasses.replace(find(n), function=stage) if n == 'prune' else find(n)\n"
        f"run_command(['run', {str(resolved)!r}, '-o', {str(out)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (out / ".lock").exists()
    assert (out / "stages" / ".03-prune.tmp" / "half").exists()
    # A fresh process is also where libraries would have said what they say when they are imported.
    assert [x for x in done.stderr.splitlines() if not x.startswith(("9 stages", "[", " " * 20))] == []
    outcome = cli("run", resolved, "-o", out)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("reused") == 2
    assert not list((out / "stages").glob("*.tmp"))
    assert _same_result(run_dir, out, tiny_texts)


def _os_error(number: int) -> Fail:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


def _writer_in_another_language() -> None:
    raise RuntimeError("I/O error: No space left on device (os error 28)")


def _wrapped() -> None:
    try:
        _os_error(errno.ENOSPC)()
    except OSError as error:
        raise ValueError("could not be saved") from error


@pytest.mark.parametrize(
    "fail", [_os_error(errno.ENOSPC), _os_error(errno.EFBIG), _writer_in_another_language, _wrapped]
)
def test_no_space(
    cli: Any,
    fail: Fail,
    recipe_file: Path,
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "step_by_name", _failing("finetune", fail))
    outcome = cli("run", recipe_file, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert "no space left" in outcome.err
    assert "Free some space" in outcome.err
    assert "Internal error" not in outcome.err
    assert [p.name for p in (tmp_path / "out" / "stages").iterdir()] == []


def test_no_space_while_candidates_are_made(
    cli: Any, recipe_file: Path, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is no candidate's fault: it is not told as "could not be made"."""
    import shutil

    from pocketformer.compress.quantize import portfolio

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out"
    shutil.copytree(run_dir, out)
    shutil.rmtree(out / "stages" / "06-quantize")
    monkeypatch.setattr(portfolio, "quantize_candidate", full)
    outcome = cli("run", recipe_file, "-o", out)
    assert outcome.code == 1
    assert "no space left" in outcome.err


def test_killed_before_the_first_stage(cli: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "stages").mkdir(parents=True)
    (out / ".lock").write_text("process 1 on nowhere, since long ago\n")
    (out / "log.txt").touch()
    outcome = cli("export", tiny_model_dir, "--threads", "1", "-o", out)
    assert outcome.code == 0, outcome.err
    assert not (out / ".lock").exists()


def test_a_run_in_use_names_its_owner(cli: Any, recipe_file: Path, run_dir: Path, tmp_path: Path) -> None:
    import json

    from pocketformer.pipeline.rundir import RunDirectory

    identity = json.loads((run_dir / "run.json").read_text())["recipe_id"]
    holder = RunDirectory.open(tmp_path / "out", recipe_id=identity, force=False)
    try:
        outcome = cli("run", recipe_file, "-o", tmp_path / "out")
    finally:
        holder.close()
    assert outcome.code == 2
    assert f"in use by process {os.getpid()}" in outcome.err
