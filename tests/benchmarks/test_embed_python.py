"""The rows about Python: what they make of figures, and that the programs behind them see what they look for."""

from __future__ import annotations

import importlib.util
import json
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from evidence import embed_python
from evidence.base_environment import INSIDE
from evidence.table import judge

from pocketformer.runtime.model import load
from pocketformer.runtime.results import Prediction

FOUND: dict[str, Any] = {
    "threads": 8, "calls": 10_000, "texts": 3, "compared": 80_000, "wrong": 0, "seconds": 60.0,
    "rss_warm": 100_000_000, "rss_most": 104_000_000, "rss_end": 103_000_000, "samples": 9,
}  # fmt: skip


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, INSIDE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **prints: Any) -> Any:
    """A row judged where the programs in ``inside`` print ``prints``, by name."""
    printed = {f"{name}.py": json.dumps(value) for name, value in prints.items()}
    monkeypatch.setattr(embed_python, "inside", lambda kept, python, name, *arguments, **_: printed[name])

    class Subject:
        bundle = work = tmp_path
        questions: ClassVar[list[str]] = ["cat", 'a "dog", no']

        def say(self, text: str) -> None: ...

        def once(self, name: str, make: object) -> dict[str, Any]:
            return {}

    subject: Any = Subject()
    wanted = next(row for row in embed_python.ROWS if row.id == id)
    return judge(wanted, subject)


@pytest.mark.parametrize(
    ("id", "change", "measured", "met"),
    [
        ("threads-answers", {}, 0, True),
        ("threads-answers", {"wrong": 1}, 1, False),
        ("threads-answers", {"compared": 79_999}, None, False),
        ("threads-answers", {"calls": 100, "compared": 800}, None, False),
        ("threads-memory", {}, 0.04, True),
        ("threads-memory", {"rss_most": 106_000_000}, 0.06, False),
    ],
)
def test_rows_about_threads(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    id: str,
    change: dict[str, int],
    measured: float | None,
    met: bool,
) -> None:
    outcome = row(id, monkeypatch, tmp_path, thread_answers=FOUND | change)
    assert (outcome.measured, outcome.met) == (pytest.approx(measured), met)


@pytest.mark.parametrize(("size", "met"), [(59_000_000, True), (60_000_000, False)])
def test_size_of_the_base_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int, met: bool
) -> None:
    weighed: dict[str, Any] = {"bytes": size, "bytecode": 5, "packages": {"tokenizers": size}}
    named = {"numpy": 30_000_000, "onnxruntime": 50_000_000}
    outcome = row("python-install-size", monkeypatch, tmp_path, install_size=weighed | {"not_counted": named})
    assert (outcome.measured, outcome.met) == (size / 1e6, met)
    del named["numpy"]
    outcome = row("python-install-size", monkeypatch, tmp_path, install_size=weighed | {"not_counted": named})
    assert outcome.measured is None
    assert "no numpy" in outcome.how


def test_a_cold_start_counts_the_whole_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts = {"import_s": 0.2, "load_s": 0.1, "first_prediction_s": 0.01}
    monkeypatch.setattr(
        embed_python,
        "cold_starts",
        lambda *_: [{**parts, "process_s": seconds} for seconds in (0.5, 0.9, 0.6)],
    )
    monkeypatch.setattr(embed_python, "describe_cold_starts", lambda *_: "3 processes")
    outcome = row("python-cold-start", monkeypatch, tmp_path)
    assert (outcome.measured, outcome.met) == (0.6, True)
    assert "first prediction 0.010 s" in outcome.how


def test_questions_travel_as_a_file(tmp_path: Path) -> None:
    import csv

    subject: Any = SimpleNamespace(work=tmp_path, questions=["cat", 'a "dog",\nno'])
    with embed_python._texts(subject).open(encoding="utf-8", newline="") as handle:
        assert [item["text"] for item in csv.DictReader(handle)] == subject.questions


def test_threads_of_a_real_model_agree(small_bundle: Path, tiny_texts: list[str]) -> None:
    found = program("thread_answers").compare(str(small_bundle), tiny_texts, 3, 70)
    assert (found["compared"], found["wrong"], found["texts"]) == (210, 0, 60)
    assert 0 < found["rss_warm"] < 2 * found["rss_most"]
    assert found["samples"] >= 1


@pytest.mark.parametrize("what", ["ids", "label", "score"])
def test_what_another_thread_changes_is_counted(
    small_bundle: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A planted defect: a model that gives every tenth answer of a thread otherwise."""
    model = load(small_bundle)
    calls = threading.local()

    class Shaky:
        def __init__(self) -> None:
            self.encoder = SimpleNamespace(encode_one=self.encode_one)

        def shaken(self) -> bool:
            calls.count = getattr(calls, "count", 0) + 1
            return threading.current_thread() is not threading.main_thread() and calls.count % 10 == 0

        def encode_one(self, text: str) -> dict[str, Any]:
            feeds = model.encoder.encode_one(text)
            if what == "ids" and self.shaken():
                feeds = {"input_ids": feeds["input_ids"] + np.int64(1)}
            return feeds

        def predict_one(self, text: str) -> Prediction:
            answer = model.predict_one(text)
            if what == "ids" or not self.shaken():
                return answer
            return Prediction(
                text,
                "other" if what == "label" else answer.label,
                answer.score if what == "label" else float(np.nextafter(answer.score, 2.0)),
            )

    threads = program("thread_answers")
    monkeypatch.setattr(threads, "load", lambda bundle: Shaky())
    found = threads.compare("", ["cat", "dog"], 2, 48)  # after two warm calls each: every tenth of 50
    assert found["wrong"] == 10


def test_memory_that_grows_is_seen(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(small_bundle)
    hoard: list[bytes] = []

    class Leaking:
        encoder = model.encoder

        def predict_one(self, text: str) -> Prediction:
            hoard.append(bytes(bytearray(b"x" * 1_000_000)))
            return model.predict_one(text)

    threads = program("thread_answers")
    monkeypatch.setattr(threads, "load", lambda bundle: Leaking())
    found = threads.compare("", ["cat"], 2, 50)
    assert found["rss_most"] - found["rss_warm"] > 80_000_000
    assert found["rss_end"] - found["rss_warm"] > 80_000_000


def test_every_file_is_weighed_once_and_by_its_owner(tmp_path: Path) -> None:
    def put(name: str, size: int) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)

    installed = {
        "onnxruntime": ["numpy/core.so"],
        "Flat_Buffers": ["flat.py"],
        "Light": ["light.py"],
        "pip": ["pip/main.py"],
    }
    needs = {
        "onnxruntime": ["flat-buffers>=2", "light; extra == 'all'", "light; python_version < '3'"],
        "Light": ["pip"],
    }
    for name, files in installed.items():
        info = f"{name}-1.0.dist-info"
        put(f"{info}/METADATA", 0)
        required = "".join(f"Requires-Dist: {need}\n" for need in needs.get(name, []))
        (tmp_path / info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{required}"
        )
        record = [*files, f"{info}/METADATA", f"{info}/RECORD"]
        (tmp_path / info / "RECORD").write_text("".join(f"{file},,\n" for file in record))
    put("numpy/core.so", 5000)
    put("flat.py", 900)
    put("light.py", 300)
    put("__pycache__/light.cpython-311.pyc", 40)
    put("pip/main.py", 7000)
    put("pip/__pycache__/main.cpython-311.pyc", 600)
    put("orphan/data.bin", 11)
    found = program("install_size").weigh(tmp_path, ["onnxruntime"])
    light = sum((tmp_path / "Light-1.0.dist-info" / name).stat().st_size for name in ("METADATA", "RECORD"))
    assert found["packages"] == {"light": 340 + light, "orphan": 11}
    assert (found["bytes"], found["bytecode"]) == (351 + light, 40)
    assert list(found["not_counted"]) == ["flat-buffers", "onnxruntime"]
    assert found["not_counted"]["onnxruntime"] > 5000
