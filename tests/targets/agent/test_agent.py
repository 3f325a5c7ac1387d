"""The agent as the device sees it: one file, run by an interpreter that knows nothing of this checkout."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.runtime.model import Model
from pocketformer.targets.agent.build import agent_sources, build_agent

FILES = list(agent_sources().values())


def test_the_same_sources_give_the_same_bytes(agent: Path, tmp_path: Path) -> None:
    again = build_agent(tmp_path / "again.pyz")
    assert again.read_bytes() == agent.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.pyz"]
    with zipfile.ZipFile(agent) as archive:
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted(names)
    assert {"__main__.py", "pocketformer/runtime/model.py", "pocketformer/targets/probe.py"} <= set(names)
    assert not [name for name in names if "agent/build" in name or "profile" in name or "cli" in name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_source_is_python_3_9(path: Path, python_3_9: Callable[[Path], ast.Module]) -> None:
    for node in ast.walk(python_3_9(path)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
            assert module.split(".")[0] not in ("torch", "pydantic", "click", "yaml", "rich", "transformers")


def test_the_first_file_can_be_read_by_any_python() -> None:
    source = agent_sources()["__main__.py"].read_text(encoding="ascii")
    tree = ast.parse(source)
    too_new = (ast.JoinedStr, ast.AnnAssign, ast.FunctionDef, ast.NamedExpr, ast.Starred, ast.Nonlocal)
    assert not [node for node in ast.walk(tree) if isinstance(node, too_new)]
    assert "__future__" not in source


def test_probe(run_agent: Any, tmp_path: Path) -> None:
    spoken = run_agent("--host-time", time.time(), "probe", "--folder", tmp_path)
    assert spoken.code == 0, spoken
    assert [event["event"] for event in spoken.events if event["event"] != "warning"] == [
        "hello",
        "result",
        "done",
    ]
    assert spoken.events[0]["protocol"] == 1
    (facts,) = spoken.of("result")
    assert facts["threads"] >= 1
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(facts["packages"][name] for name in ("numpy", "onnxruntime", "tokenizers"))
    assert facts["disk_free_bytes"] > 0
    assert facts["memory_available_bytes"] > 0
    assert abs(facts["clock_utc_s"] - time.time()) < 3600
    assert isinstance(facts["temperatures"], list)
    assert "clock-skew" not in [event["kind"] for event in spoken.of("warning")]


def test_verify(run_agent: Any, tiny_bundle: Path) -> None:
    spoken = run_agent("verify", tiny_bundle)
    assert spoken.code == 0, spoken
    (result,) = spoken.of("result")
    assert result["ok"]
    assert [check["name"] for check in result["checks"]][-1] == "labels"


def flip(path: Path) -> None:
    """Change one byte in the middle; the size stays."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "golden.jsonl", "manifest.json"])
def test_a_damaged_bundle_ends_with_5(run_agent: Any, bundle: Path, name: str) -> None:
    path = bundle / name
    if name == "manifest.json":
        path.write_text(path.read_text()[:-10])
    else:
        flip(path)
    spoken = run_agent("verify", bundle)
    assert spoken.code == 5, spoken
    assert spoken.error["kind"] == "corrupt-bundle"
    assert name in spoken.error["message"]
    assert spoken.of("done") == []


def test_predictions_are_those_of_the_model_in_this_process(
    run_agent: Any, tiny_bundle: Path, inputs: Path, model: Model, tiny_texts: list[str]
) -> None:
    spoken = run_agent("predict", tiny_bundle, inputs, "--batch-size", 8)
    assert spoken.code == 0, spoken
    rows = [row for result in spoken.of("result") for row in result["rows"]]
    expected = model.logits(tiny_texts, batch_size=8)
    np.testing.assert_array_equal(np.array([row["logits"] for row in rows], np.float32), expected)
    assert [row["label"] for row in rows] == [model.labels[index] for index in expected.argmax(axis=1)]
    assert len({row["label"] for row in rows}) > 1
    spoken = run_agent("predict", tiny_bundle, inputs, "--batch-size", 8, "--output", "labels")
    assert [row for result in spoken.of("result") for row in result["rows"]] == [
        {"label": r["label"]} for r in rows
    ]


def test_measure(
    run_agent: Any, tiny_bundle: Path, inputs: Path, tiny_texts: list[str], tmp_path: Path
) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    write(zone / "type", "cpu-thermal")
    write(zone / "temp", "61500")
    spoken = run_agent("--root", tmp_path, "measure", tiny_bundle, inputs, "--rounds", 2, "--threads", 1)
    assert spoken.code == 0, spoken
    (result,) = spoken.of("result")
    # The tiny model has 64 positions.
    assert list(result["workloads"]) == ["real", "1x32"]
    left_out = [event["message"] for event in spoken.of("warning") if event["kind"] == "workload-left-out"]
    assert [message.split()[0] for message in left_out] == ["1x128", "8x128"]
    assert len(result["workloads"]["real"]["seconds"]) == len(tiny_texts)
    assert len(result["workloads"]["1x32"]["seconds"]) == 2
    for timing in result["workloads"].values():
        assert all(value > 0 for value in timing["seconds"])
        assert timing["latency_ms"]["samples"] == len(timing["seconds"])
        assert timing["latency_ms"]["p50"] <= timing["latency_ms"]["p90"] <= timing["latency_ms"]["p99"]
    condition = {
        "temperatures": [{"zone": "thermal_zone0", "type": "cpu-thermal", "celsius": 61.5}],
        "throttling": [],
    }
    assert result["before"] == result["after"] == condition
    assert result["session"]["intra_op_threads"] == 1
    assert result["peak_memory_bytes"] > 1e6


def test_missing_packages_are_named(run_agent: Any, tiny_bundle: Path) -> None:
    bare = ("-I", "-S")
    spoken = run_agent("verify", tiny_bundle, python=bare)
    assert spoken.code == 4
    assert spoken.error["kind"] == "missing-package"
    assert "no numpy and no onnxruntime and no tokenizers" in spoken.error["message"]
    assert "-m pip install numpy onnxruntime tokenizers" in spoken.error["hint"]
    # Probing is for finding this out.
    spoken = run_agent("probe", python=bare)
    assert spoken.code == 0
    assert set(spoken.of("result")[0]["packages"].values()) == {None}
    assert "missing-package" in [event["kind"] for event in spoken.of("warning")]


def test_a_package_that_cannot_be_imported(agent: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "onnxruntime/__init__.py", "raise ImportError('libc is too old', name='onnxruntime')")
    done = subprocess.run(
        [sys.executable, str(agent), "verify", str(tiny_bundle)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 4
    error = json.loads(done.stdout.splitlines()[-1])
    assert error["kind"] == "missing-package"
    assert "onnxruntime cannot be imported there: libc is too old" in error["message"]


def test_a_python_that_is_too_old(agent: Path) -> None:
    program = (
        "import runpy, sys\n"
        "sys.version_info = (3, 8, 10, 'final', 0)\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(agent)], capture_output=True, check=False)
    assert done.returncode == 4
    error = json.loads(done.stdout)
    assert error["kind"] == "python-too-old"
    assert error["message"] == "Python is version 3.8 there; the agent needs 3.9 or newer"
    assert error["exit_code"] == 4


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_too_little_memory_is_told_before_anything_is_loaded(
    run_agent: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    write(tmp_path / "proc/meminfo", "MemTotal: 500000 kB\nMemAvailable: 20000 kB\n")
    spoken = run_agent("--root", tmp_path, "verify", tiny_bundle)
    assert spoken.code == 4
    assert spoken.error["kind"] == "low-memory"
    assert "20.5 MB are free" in spoken.error["message"]
    assert spoken.of("progress") == []


def test_a_processor_that_is_held_back_gives_warnings(
    run_agent: Any, tiny_bundle: Path, inputs: Path, tmp_path: Path
) -> None:
    write(tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "1200000")
    write(tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "1800000")
    spoken = run_agent("--root", tmp_path, "measure", tiny_bundle, inputs, "--rounds", 1, "--time-limit", 0)
    assert spoken.code == 0, spoken
    warnings = [event["message"] for event in spoken.of("warning") if event["kind"] == "throttling"]
    sign = "cpu0: limited to 1200 MHz of 1800 MHz"
    assert warnings == [f"before measuring, {sign}", f"after measuring, {sign}"]
    assert spoken.of("result")[0]["after"]["throttling"] == [sign]


@pytest.mark.parametrize(("shift", "word"), [(-7200, "ahead of"), (7200, "behind")])
def test_a_clock_that_is_off_gives_a_warning(run_agent: Any, shift: float, word: str) -> None:
    spoken = run_agent("--host-time", time.time() + shift, "probe")
    assert spoken.code == 0
    (warning,) = [event for event in spoken.of("warning") if event["kind"] == "clock-skew"]
    assert word in warning["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verfy"], "invalid choice"),
        ([], "required"),
        (["verify", "/no/such/bundle"], "no bundle at"),
        (["predict", "BUNDLE", "/no/such/file"], "No such file"),
        (["predict", "BUNDLE", "BAD"], "line 2: not a JSON object with a text"),
        (["predict", "BUNDLE", "INPUTS", "--batch-size", "0"], "batch_size is 0"),
        (["measure", "BUNDLE", "INPUTS", "--rounds", "0"], "rounds is 0"),
    ],
)
def test_bad_input_ends_with_2(
    run_agent: Any, tiny_bundle: Path, inputs: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a"}\n[1]\n')
    places = {"BUNDLE": tiny_bundle, "INPUTS": inputs, "BAD": bad}
    spoken = run_agent(*[places.get(argument, argument) for argument in arguments])
    assert spoken.code == 2, spoken
    assert spoken.error["kind"] == "bad-input"
    assert message in spoken.error["message"]


@pytest.mark.parametrize("how", ["input closes", "folder goes"])
def test_it_ends_by_itself_when_the_host_has_gone(
    agent: Path, tiny_bundle: Path, inputs: Path, tmp_path: Path, how: str
) -> None:
    leash = tmp_path / "session"
    leash.mkdir()
    command = [sys.executable, str(agent), "--leash", str(leash), "measure", str(tiny_bundle), str(inputs)]
    with subprocess.Popen(
        [*command, "--rounds", "100000000", "--time-limit", "3600"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while b"measuring" not in process.stdout.readline():
            pass
        if how == "input closes":
            process.stdin.close()
        else:
            leash.rmdir()
        assert process.wait(30) == 4
        assert b"done" not in process.stdout.read()
