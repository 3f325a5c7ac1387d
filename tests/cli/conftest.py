"""The command line in this process: its exit code, and what it wrote where."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pocketformer.cli import run_command
from pocketformer.pipeline.recipe import Recipe


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)


Cli = Callable[..., Outcome]


def call(*arguments: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def short_loadgen_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices over SSH are driven for a tenth of a second a scenario; the figures are of no use here."""
    from pocketformer.targets.remote import RemoteDevice

    measure = RemoteDevice.measure

    def shorter(device: RemoteDevice, *texts: Any, loadgen_s: float, **settings: Any) -> dict[str, Any]:
        return measure(device, *texts, loadgen_s=min(loadgen_s, 0.1), **settings)

    monkeypatch.setattr(RemoteDevice, "measure", shorter)


@pytest.fixture(scope="session")
def cli() -> Cli:
    return call


@pytest.fixture(scope="session")
def recipe_file(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(tiny_recipe.to_yaml())
    return path


@pytest.fixture(scope="session")
def finished(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """One run of every kind of step, which many tests look at and none may change."""
    out = tmp_path_factory.mktemp("cli") / "out"
    outcome = call("run", recipe_file, "-o", out, "--json")
    assert outcome.code == 0, outcome.err
    return out, outcome


@pytest.fixture(scope="session")
def run_dir(finished: tuple[Path, Outcome]) -> Path:
    return finished[0]


@pytest.fixture(scope="session")
def bundle_dir(run_dir: Path) -> Path:
    return run_dir / "bundles" / "cpu"
