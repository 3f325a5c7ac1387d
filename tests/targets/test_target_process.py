"""Fresh processes: their one line of JSON comes back, their failures come with what they said on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pocketformer.runtime.errors import InputError, PocketformerError
from pocketformer.targets import process
from pocketformer.targets.process import cold_start_bundle, cold_start_torch, measure_process


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_last_line_is_the_answer() -> None:
    result = measure_process(python("print('warming up'); print('{\"total_s\": 1.5}')"))
    assert result["total_s"] == 1.5
    assert 0 < result["process_s"] < 60


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.stderr.write('no such bundle'); sys.exit(2)", "(?s)exit code 2.*no such bundle"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("pass", "printed nothing"),
        ("print('hello')", "printed 'hello', not one line of JSON"),
        ("print([1])", "printed"),
        (
            "import sys; sys.stderr.write('\\n'.join(f'line {i}.' for i in range(100))); sys.exit(1)",
            "(?s)exit code 1:\nline 85.*99",
        ),
    ],
)
def test_a_process_that_fails_says_why(code: str, message: str) -> None:
    with pytest.raises(PocketformerError, match=message):
        measure_process(python(code))


def test_a_process_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(PocketformerError, match=r"within 0\.5 s"):
        measure_process(python("import time; time.sleep(60)"), timeout_s=0.5)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(PocketformerError, match="cannot be run"):
        measure_process(["/no/such/program"])


def test_cold_start_takes_medians_of_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = iter([9.0, 1.0, 2.0])
    argvs = []

    def answer(argv: list[str], **_: object) -> dict[str, Any]:
        argvs.append(argv)
        parts = {"import_s": 0.1, "load_s": 0.2, "first_prediction_s": 0.3, "peak_memory_bytes": None}
        return {**parts, "total_s": next(totals), "process_s": 5.0, "label": "x"}

    monkeypatch.setattr(process, "measure_process", answer)
    result = cold_start_bundle(Path("bundle"), "-v")
    assert result == {
        "import_s": 0.1,
        "load_s": 0.2,
        "first_prediction_s": 0.3,
        "total_s": 2.0,
        "process_s": 5.0,
    }
    assert len(argvs) == 3
    assert argvs[0][-3:] == ["pocketformer.runtime.coldstart", "bundle", "-v"]
    with pytest.raises(InputError, match="repeats is 0"):
        cold_start_bundle(Path("bundle"), "text", repeats=0)


def test_a_working_directory_cannot_shadow_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tokenizers.py", "json.py", "pocketformer.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PocketformerError) as caught:
        cold_start_bundle(tmp_path / "no-bundle", "text", repeats=1)
    assert "no-bundle" in caught.value.message
    assert "shadowed" not in caught.value.message


def test_peak_memory_is_the_childs_own_and_not_its_parents() -> None:
    ballast = bytearray(b"x") * 400_000_000  # ru_maxrss survives exec: a child would report this as its own
    code = (
        "import json; from pocketformer.runtime.coldstart import peak_memory_bytes; "
        "print(json.dumps({'peak': peak_memory_bytes()}))"
    )
    result = measure_process([sys.executable, "-c", code], environment=process._environment(sys.executable))
    del ballast
    assert 1e6 < result["peak"] < 200e6


def test_cold_start_of_a_torch_model(tiny_model_dir: Path) -> None:
    result = cold_start_torch(tiny_model_dir, "where is paris ?", repeats=1, threads=1)
    parts = result["import_s"] + result["load_s"] + result["first_prediction_s"]
    assert result["total_s"] == pytest.approx(parts)
    assert result["process_s"] > result["total_s"] > result["load_s"] > 0
    assert result["peak_memory_bytes"] > 50e6
