from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pocketformer.runtime.coldstart import main, peak_memory_bytes
from pocketformer.runtime.model import Model

MODULE = [sys.executable, "-m", "pocketformer.runtime.coldstart"]


def test_one_line_of_json_from_a_fresh_process(tiny_bundle: Path, tiny_runtime: Model) -> None:
    # This process holds torch: its size must not be taken for the child's.
    ballast = bytearray(b"x" * 300_000_000)
    done = subprocess.run([*MODULE, str(tiny_bundle), "cat dog"], capture_output=True, text=True, check=True)
    del ballast
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    parts = [result[name] for name in ("import_s", "load_s", "first_prediction_s")]
    assert all(value > 0.0 for value in parts)
    assert result["total_s"] == pytest.approx(sum(parts))
    assert 20_000_000 < result["peak_memory_bytes"] < 200_000_000
    assert result["label"] == tiny_runtime.predict_one("cat dog").label


def test_errors_go_to_stderr_with_their_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "cat"]) == 2
    assert main([]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "manifest.json" in output.err
    assert "usage" in output.err


def test_peak_memory_of_this_process() -> None:
    peak = peak_memory_bytes()
    assert peak is not None
    assert peak > 20_000_000
