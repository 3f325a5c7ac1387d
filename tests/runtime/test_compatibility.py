"""The runtime runs on the Python that a device has, and pulls in nothing of the workstation half."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pocketformer

ROOT = Path(pocketformer.__file__).parent
FILES = [*sorted((ROOT / "runtime").rglob("*.py")), ROOT / "__init__.py"]
HEAVY = ("torch", "transformers", "pydantic", "rich", "click", "yaml", "onnx", "sklearn", "pandas", "jinja2")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_source_is_python_3_9(path: Path, python_3_9: Callable[[Path], ast.Module]) -> None:
    tree = python_3_9(path)
    if tree.body[1:]:
        assert "from __future__ import annotations" in path.read_text(encoding="utf-8")


def test_every_file_was_found() -> None:
    assert {"model.py", "manifest.py", "verify.py", "coldstart.py"} <= {path.name for path in FILES}


def test_import_and_load_stay_light(tiny_bundle: Path) -> None:
    program = (
        "import json, sys, pocketformer\n"
        "light = sorted(sys.modules)\n"
        f"pocketformer.load({str(tiny_bundle)!r}).predict_one('cat')\n"
        "print(json.dumps([light, sorted(sys.modules)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    light, loaded = json.loads(done.stdout)
    assert "numpy" not in light
    assert {"numpy", "onnxruntime", "tokenizers"} <= set(loaded)
    assert not set(HEAVY) & set(loaded)
    rooms = ("compress", "export", "targets", "report", "pipeline", "cli")
    assert not {f"pocketformer.{room}" for room in rooms} & set(loaded)
