"""A bundle predicts and verifies where only the base install is: no torch, no transformers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pocketformer.runtime.model import Model

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

PROGRAM = """
import importlib.util, json, sys, time
heavy = ("torch", "transformers", "onnx", "sklearn", "pandas")
started = time.perf_counter()
import pocketformer
model = pocketformer.load(sys.argv[1])
loaded = time.perf_counter()
from pocketformer.runtime.verify import verify
print(json.dumps({
    "load_s": loaded - started,
    "found": [name for name in heavy if importlib.util.find_spec(name)],
    "where": pocketformer.__file__,
    "predictions": [[p.text, p.label, p.score] for p in model.predict(json.loads(sys.argv[2]))],
    "verify": verify(sys.argv[1]).to_dict(),
}))
"""


@pytest.fixture(scope="module")
def base_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a fresh virtual environment into which `pip install .` put the base install."""
    directory = tmp_path_factory.mktemp("base")
    # A copy: building must leave nothing in the working tree.
    source = directory / "source"
    source.mkdir()
    shutil.copytree(
        ROOT / "pocketformer", source / "pocketformer", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    (source / "README.md").write_text("Pocketformer\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", str(directory / "venv")], check=True)
    python = directory / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python


def run(python: Path, *arguments: str) -> str:
    """Run with nothing of this process's environment that could lend it packages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "-I", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=python.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_predicts_and_verifies(
    base_python: Path, tiny_bundle: Path, tiny_runtime: Model, tiny_texts: list[str]
) -> None:
    result = json.loads(run(base_python, "-c", PROGRAM, str(tiny_bundle), json.dumps(tiny_texts[:5])))
    assert result["found"] == []
    assert str(ROOT) not in result["where"]
    assert result["verify"]["ok"], result["verify"]
    for (text, label, score), expected in zip(
        result["predictions"], tiny_runtime.predict(tiny_texts[:5]), strict=True
    ):
        assert (text, label) == (expected.text, expected.label)
        assert score == pytest.approx(expected.score, abs=1e-5)
    # The promise is 0.7 s on a quiet machine; a loaded one must not make this test fail by chance.
    assert result["load_s"] < 3.0


def test_cold_start_is_small(base_python: Path, tiny_bundle: Path, tiny_runtime: Model) -> None:
    result = json.loads(run(base_python, "-m", "pocketformer.runtime.coldstart", str(tiny_bundle), "cat dog"))
    assert result["label"] == tiny_runtime.predict_one("cat dog").label
    assert result["peak_memory_bytes"] < 200_000_000
    assert result["total_s"] < 3.0
