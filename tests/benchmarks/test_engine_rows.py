"""Which engines count, on made-up files; real ones are built by `make evidence-devices` and in tests/export."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evidence_devices
import pytest
from evidence import engine_rows
from evidence.devices import INSIDE, DeviceRuns
from evidence.planted_graphs import PLANTED
from evidence.table import EvidenceError

from pocketformer.runtime.fingerprint import Fingerprint, fingerprint_path
from pocketformer.runtime.manifest import sha256_file
from pocketformer.runtime.tensorrt.layers import Layer, layers_path


class Runs:
    """Engines of one model, "m", written by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failed: dict[str, str] = {}
        self.reports: dict[str, Any] = {}
        self.students: dict[str, Path] = {}
        (folder / "graphs").mkdir()

    def packages(self) -> dict[str, str]:
        return {"tensorrt-rtx-cu12": "1.7.1"}

    def say(self, text: str) -> None:
        pass

    def graphs(self, name: str, *options: str) -> Path:
        return self.folder / "graphs"

    def engines(
        self, name: str, precision: str, capabilities: tuple[str, ...], *options: str
    ) -> Mapping[str, Path]:
        return {
            item: path
            for item in capabilities
            if (path := self.folder / f"{precision}-{item}.engine").is_file()
        }

    def student(self, precision: str) -> Path | None:
        return self.students.get(precision)

    def once(self, name: str, make: Any) -> dict[str, Any]:
        return {"failed": self.failed, "reports": self.reports}

    def write(self, precision: str, capability: str, computes_in: str, size: int = 1000) -> Path:
        graph = self.folder / "graphs" / f"{precision}.onnx"
        graph.write_bytes(precision.encode())
        engine = self.folder / f"{precision}-{capability}.engine"
        engine.write_bytes(b"x" * size)
        fingerprint = Fingerprint(
            library="tensorrt_rtx",
            library_version="1.7.1",
            compute_capabilities=(capability,),
            graph_sha256=sha256_file(graph),
            engine_sha256=sha256_file(engine),
            profile={},
            precision=precision,
        )
        fingerprint_path(engine).write_text(fingerprint.to_json())
        layer = Layer(name="p", type="gemm", precision=computes_in, inputs=(), outputs=(), tactic="")
        layers_path(engine).write_text(json.dumps({"layers": [layer.to_dict()]}))
        return engine


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    return Runs(tmp_path)


def test_engines_that_show_their_precision_count(runs: Any) -> None:
    for precision in ("fp32", "int8"):
        for capability in engine_rows.CAPABILITIES:
            runs.write(precision, capability, precision)
    measured = engine_rows.engines(("m",), ("fp32", "int8"))(runs)
    assert measured.value == 8
    assert "Not counted" not in measured.how
    assert "none was run" in measured.how


def test_others_do_not_count_and_are_named(runs: Any) -> None:
    runs.write("int8", "8.0", "int8").write_bytes(b"damaged")
    runs.write("int8", "8.6", "fp32")
    fingerprint = fingerprint_path(runs.write("int8", "8.9", "int8"))
    fingerprint.write_text(fingerprint.read_text().replace('"8.9"', '"8.6"'))
    runs.failed = {"12.0": "the builder refused"}
    measured = engine_rows.engines(("m",), ("int8",))(runs)
    assert measured.value == 0
    for words in (
        "int8 for 8.0: ",
        "not those that were built",
        "m int8 for 8.6: no product computes in int8",
        "wanted is 8.9",
        "m int8 for 12.0: the builder refused",
    ):
        assert words in measured.how


def test_engines_of_a_child_that_failed_do_not_stop_the_others(runs: Any) -> None:
    for capability in engine_rows.CAPABILITIES:
        runs.write("fp16", capability, "fp16")
    whole = runs.engines

    def engines(name: str, *arguments: Any) -> Any:
        if name == "bad":
            raise EvidenceError("engine_builds.py ended with exit code -9")
        return whole(name, *arguments)

    runs.engines = engines
    measured = engine_rows.engines(("bad", "m"), ("fp16",))(runs)
    assert measured.value == 4
    assert "exit code -9" in measured.how


def test_a_student_must_hold_where_there_is_one(runs: Any) -> None:
    for precision in ("fp16", "int8"):
        for capability in engine_rows.CAPABILITIES:
            runs.write(precision, capability, precision)
    measured = engine_rows.pruned(runs)
    assert measured.value == 8
    assert "no demo has been run" in measured.how
    for precision in ("fp16", "int8"):
        runs.students[precision] = runs.write(precision, "12.0", precision)
        runs.students[precision].with_name("model.onnx").write_bytes(precision.encode())
    with pytest.raises(EvidenceError, match=r"fp16 engine of the student .* another graph"):
        engine_rows.pruned(runs)
    (runs.folder / "model.onnx").write_bytes(b"fp16")
    with pytest.raises(EvidenceError, match=r"int8 engine of the student .* another graph"):
        engine_rows.pruned(runs)


def test_size_is_a_ratio_of_files_that_count(runs: Any) -> None:
    runs.write("fp32", "8.9", "fp32", size=3000)
    runs.write("int8", "8.9", "int8", size=1200)
    assert engine_rows.int8_size(runs).value == pytest.approx(2.5)
    runs.write("int8", "8.9", "fp32", size=1200)
    with pytest.raises(EvidenceError, match="int8 engine does not count: no product computes in int8"):
        engine_rows.int8_size(runs)


def test_a_bad_node_counts_when_it_is_named_with_reason_and_fitting_fix(runs: Any) -> None:
    runs.reports = {
        item.name: [{"node": item.bad, "operator": item.operator, "reason": "no", "fix": f"Do: {item.fix}"}]
        for item in PLANTED
    }
    assert len(PLANTED) >= 10
    assert engine_rows.rejected_nodes(runs).value == 100
    first, second, *_ = (item.name for item in PLANTED)
    runs.reports[first][0]["fix"] = "Export the model again."
    runs.reports[second] = []
    measured = engine_rows.rejected_nodes(runs)
    assert measured.value == pytest.approx(100 * (len(PLANTED) - 2) / len(PLANTED))
    assert f"missed: {first}, {second}" in measured.how


def test_the_rows_ask_for_what_is_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    required = {row.id: (row.comparator, row.required) for row in evidence_devices.ROWS}
    assert len(required) == len(evidence_devices.ROWS)
    assert required["engines"] == ("==", 72)
    assert required["int8-size"] == (">=", 2.3)
    assert required["rejected-nodes"] == ("==", 100)
    assert evidence_devices.main(["--list"]) == 0
    assert "rejected-nodes" in capsys.readouterr().out


def limited(gigabytes: str, program: Path, seconds: str = "60") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(INSIDE / "limited.py"), gigabytes, seconds, str(program), "argument"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=dict(os.environ))


def test_a_child_gets_so_much_memory_and_work_and_no_more(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys; block = bytearray(200_000_000); print(sys.argv[1], len(block))\n")
    assert limited("0.5", program).stdout == "argument 200000000\n"
    refused = limited("0.1", program)
    assert refused.returncode != 0
    assert "MemoryError" in refused.stderr
    program.write_text("while True: pass\n")
    assert limited("0.5", program, seconds="1").returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_a_child_must_run_this_checkout(tmp_path: Path) -> None:
    def runs(root: Path) -> DeviceRuns:
        repository: Any = SimpleNamespace(root=root, code_key=lambda: "key")
        return DeviceRuns(repository)

    program = tmp_path / "program.py"
    program.write_text(
        "import json, sys; print('noise'); print(json.dumps({'package': sys.argv[1], 'x': 1}))\n"
    )
    inside = runs(tmp_path).child(str(program), [str(tmp_path / "pocketformer" / "__init__.py")], tmp_path)
    assert inside["x"] == 1
    assert inside["seconds"] > 0
    with pytest.raises(EvidenceError, match="which is not this checkout's"):
        runs(tmp_path).child(str(program), ["/elsewhere/pocketformer/__init__.py"], tmp_path)
    program.write_text("raise SystemExit('no space left')\n")
    with pytest.raises(EvidenceError, match=r"exit code 1: .*no space left"):
        runs(tmp_path).child(str(program), [], tmp_path)
