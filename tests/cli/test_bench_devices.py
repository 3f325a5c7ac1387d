"""``bench`` on several devices over real SSH: a server on the loopback stands for the devices.

Stand-ins, named as such, play what a loopback cannot: a wrapper around Python that kills the link, shows the agent a
throttled board or a wrong clock, and puts tools on its PATH that replay text recorded on a Jetson Orin Nano.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pocketformer.runtime.errors import MissingDependencyError
from pocketformer.runtime.tensorrt.library import load_library

TARGETS = Path(__file__).parents[1] / "targets"
OPTIONS = ("--threads", "1", "--rounds", "5")


@pytest.fixture(autouse=True)
def brief() -> Iterator[None]:
    """What takes long in a bench and is no part of these tests is left out."""
    from pocketformer.pipeline import bench, devices, measurements

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "drive_loadgen", lambda *_: (None, "LoadGen: left out"))
        patch.setattr(measurements, "_add_cold_starts", lambda *_: None)
        patch.setattr(devices, "_ENERGY_S", 1.0)
        yield


class Fleet:
    """A fleet file of devices that are all the loopback, each with a Python of its own."""

    def __init__(self, loopback: Any, folder: Path) -> None:
        self.loopback = loopback
        self.folder = folder
        self.devices: list[dict[str, Any]] = []

    def add(self, name: str, body: str = "", **more: Any) -> Path:
        """A device whose Python is a shell script with this body before the real one takes over."""
        script = self.folder / f"python-of-{name}"
        script.write_text(f'#!/bin/sh\n{body}\nexec "{sys.executable}" "$@"\n')
        script.chmod(0o755)
        server = self.loopback.server
        keys = {"identity": str(server.key), "known_hosts": str(server.known_hosts)}
        device = {"name": name, "address": server.address, "python": str(script), **keys}
        self.devices.append({**device, "folder": str(self.loopback.folder), **more})
        return script

    def file(self) -> Path:
        path = self.folder / "fleet.yaml"
        path.write_text(yaml.safe_dump({"devices": self.devices}))
        return path


@pytest.fixture
def fleet(loopback: Any, tmp_path: Path) -> Fleet:
    return Fleet(loopback, tmp_path)


def rows_of(out: Path) -> dict[str, Any]:
    report = json.loads((out / "report.json").read_text())
    return {device["name"]: device for device in report["devices"]}


def test_two_addresses_and_this_machine(cli: Any, loopback: Any, run_dir: Path, tmp_path: Path) -> None:
    server = loopback.server
    other = server.address.replace("127.0.0.1", "localhost")
    known = tmp_path / "known"
    line = server.known_hosts.read_text()
    known.write_text(line + line.replace("127.0.0.1", "localhost"))
    there = ("--python", sys.executable, "--folder", loopback.folder, "--identity", server.key)
    outcome = cli(
        "bench", run_dir, "--target", "cpu", "--target", server.address, "--target", other, *there,
        "--known-hosts", known, *OPTIONS, "-o", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    rows = rows_of(tmp_path / "out")
    assert list(rows) == ["cpu", f"127.0.0.1:{server.port}", f"localhost:{server.port}"]
    assert {row["status"] for row in rows.values()} == {"measured"}
    here, *far = rows.values()
    for row in far:
        for name in ("metric", "metric_ci95", "drop", "drop_ci95", "flips", "file_mb"):
            assert row["result"][name] == here["result"][name], name
        assert row["result"]["latency_ms"]["real"]["samples"] == len(
            row["result"]["latency_samples_ms"]["real"]
        )
        assert row["result"]["samples_per_s"]["real"] > 0
        assert row["result"]["peak_memory_mb"] > 10
        assert row["versions"]["onnxruntime"]
        assert row["fallback_operators"] == {}
        assert row["energy"] is None
        assert (row["loadgen"]["driver"], row["loadgen"]["note"]) == (
            "mlcommons-loadgen",
            "not an MLPerf result",
        )
        assert row["loadgen"]["single_stream"]["latency_ms"]["p50"] > 0
        assert row["loadgen"]["offline"]["samples_per_s"] > 0
        assert row["baselines"]["torch_eager"] is None
    text = (tmp_path / "out" / "report.json").read_text()
    assert str(server.key) not in text
    assert str(known) not in text
    for name in rows:
        assert name in outcome.out
        assert name in (tmp_path / "out" / "report.html").read_text()
        assert name in (tmp_path / "out" / "report.md").read_text()


def test_a_device_that_warns_one_that_tells_its_power_and_an_emulator(
    cli: Any, fleet: Fleet, run_dir: Path, tmp_path: Path
) -> None:
    frequencies = tmp_path / "root/sys/devices/system/cpu/cpu0/cpufreq"
    frequencies.mkdir(parents=True)
    (frequencies / "scaling_max_freq").write_text("800000\n")
    (frequencies / "cpuinfo_max_freq").write_text("2400000\n")
    a_wrong_clock = 'for a; do shift; [ "$p" = --host-time ] && a=1000; p="$a"; set -- "$@" "$a"; done'
    slowed = f'case "$1" in *.pyz) f="$1"; shift; set -- "$f" --root "{tmp_path}/root" "$@";; esac'
    fleet.add("warns", f"{a_wrong_clock}\n{slowed}")
    (tmp_path / "without").mkdir()
    (tmp_path / "without/mlperf_loadgen.py").write_text("raise ImportError")
    fleet.add(
        "orin-stand-in",
        f'PYTHONPATH="{tmp_path}/without"; export PYTHONPATH; '
        f'PATH="{stand_ins(tmp_path)}:$PATH"; export PATH',
    )
    fleet.add("emulator", emulated=True)
    outcome = cli("bench", run_dir, "--fleet", fleet.file(), *OPTIONS, "-o", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["failed_devices"] == []
    rows = rows_of(tmp_path / "out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "warns": "measured",
        "orin-stand-in": "measured",
        "emulator": "emulated",
    }
    assert any("limited to 800 MHz of 2400 MHz" in text for text in rows["warns"]["warnings"])
    assert any("the device's clock is" in text for text in rows["warns"]["warnings"])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert any(w["message"].startswith("warns: the device's clock") for w in report["warnings"])
    told = rows["orin-stand-in"]
    assert (told["power"]["mode"], told["power"]["change"]) == ("15W", None)
    assert (told["loadgen"]["driver"], told["loadgen"]["version"]) == ("own loop", None)
    assert rows["warns"]["loadgen"]["driver"] == "mlcommons-loadgen"
    assert told["energy"]["rail"] == "VDD_IN"
    expected = told["energy"]["mean_mw"] * told["energy"]["seconds"] / told["energy"]["inferences"]
    assert told["energy"]["per_inference_mj"] == pytest.approx(expected)
    emulated = rows["emulator"]
    assert emulated["loadgen"] is None
    assert emulated["result"]["metric"] == told["result"]["metric"]
    assert emulated["emulation"]["emulated"] is True
    assert emulated["emulation"]["p50_ms"]["real"] > 0
    for name in ("latency_ms", "latency_samples_ms", "samples_per_s"):
        assert emulated["result"][name] == {}
    assert emulated["result"]["peak_memory_mb"] is None
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no speed" in page
    assert "mJ" in page
    assert "driven by our own loop" in page


@pytest.mark.slow
def test_a_board_that_nobody_has_at_hand(
    cli: Any, fleet: Fleet, run_dir: Path, emulated_python: Callable[[str], Path], tmp_path: Path
) -> None:
    """The whole way to ARM64: it answers there and tells its power mode, and no speed is claimed of it."""
    python = emulated_python("cortex-a76")
    script = fleet.add("board", f'PATH="{stand_ins(tmp_path)}:$PATH"; export PATH; exec "{python}" "$@"')
    server = fleet.loopback.server
    outcome = cli(
        "bench", run_dir, "--target", server.address, "--python", script, "--folder", fleet.loopback.folder,
        "--identity", server.key, "--known-hosts", server.known_hosts, *OPTIONS, "-o", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    (row,) = rows_of(tmp_path / "out").values()
    assert row["status"] == "emulated"
    assert row["hardware"].startswith("an emulator of ")
    assert "ARM implementer 0x41 part 0xd0b (aarch64)" in row["hardware"]
    assert "dotprod" in row["hardware"]
    assert row["versions"]["onnxruntime"]
    assert row["result"]["metric"] is not None
    assert row["result"]["flips"] is not None
    assert row["power"]["mode"] == "15W"
    assert row["emulation"]["p50_ms"]["real"] > 0
    assert (row["result"]["latency_ms"], row["result"]["samples_per_s"]) == ({}, {})
    assert (row["result"]["peak_memory_mb"], row["energy"]) == (None, None)
    assert "no speed" in (tmp_path / "out" / "report.html").read_text()


def stand_ins(folder: Path) -> Path:
    """Stand-ins for a Jetson's tools, which replay what was recorded on boards."""
    place = folder / "stand-ins"
    place.mkdir()
    lines = (TARGETS / "tegrastats/orin-nano-jetpack6.txt").read_text().splitlines()
    (place / "recorded.txt").write_text("\n".join(x for x in lines if "VDD_IN" in x) + "\n")
    modes = TARGETS / "power_modes"
    for name, body in {
        "tegrastats": 'while :; do while read -r line; do echo "$line"; sleep 0.02; done '
        f"< '{place}/recorded.txt'; done",
        "nvpmodel": f"cat '{modes}/nvpmodel-query-orin-nano.txt'",
        "jetson_clocks": f"cat '{modes}/jetson-clocks-orin-nano.txt'",
    }.items():
        (place / name).write_text(f"#!/bin/sh\n{body}\n")
        (place / name).chmod(0o755)
    return place


def test_one_device_is_lost_and_comes_back(cli: Any, fleet: Fleet, run_dir: Path, tmp_path: Path) -> None:
    fleet.add("stays")
    # The parent of the agent's shell is the half of sshd that serves the link.
    drop = 'case "$*" in *" measure "*) kill -9 "$(ps -o ppid= -p $PPID | tr -d " ")"; sleep 1;; esac'
    script = fleet.add("goes", drop)
    arguments = ("bench", run_dir, "--fleet", fleet.file(), *OPTIONS, "-o", tmp_path / "out")
    outcome = cli(*arguments)
    assert outcome.code == 4
    assert "Error: goes: the connection to " in outcome.err
    assert "was lost" in outcome.err
    assert "Check the network" in outcome.err
    before = rows_of(tmp_path / "out")
    assert (before["stays"]["status"], before["goes"]["status"]) == ("measured", "failed")
    assert "was lost" in before["goes"]["error"]
    assert before["goes"]["result"] is None
    assert before["goes"]["hardware"], "what was learnt before the loss stands"
    assert "1 of 2 devices failed: goes." in (tmp_path / "out" / "report.md").read_text()
    shutil.copy(fleet.folder / "python-of-stays", script)
    again = cli(*arguments)
    assert again.code == 0, again.err
    after = rows_of(tmp_path / "out")
    assert after["goes"]["status"] == "measured"
    assert after["stays"] == before["stays"], "it was not measured again"
    third = cli(*arguments)
    assert third.code == 0
    assert third.err.count("reused") == 2


def test_a_damaged_bundle_fails_its_device_as_any_other_fault_does(
    cli: Any, fleet: Fleet, run_dir: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    graph = run / json.loads((run / "run.json").read_text())["artefacts"]["bundle"] / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    fleet.add("board")
    outcome = cli("bench", run, "--fleet", fleet.file(), *OPTIONS, "-o", tmp_path / "out")
    assert outcome.code == 4, outcome.err
    assert "Error: board: on the device: " in outcome.err
    assert "model.onnx has another SHA-256 than the manifest says" in outcome.err
    (row,) = rows_of(tmp_path / "out").values()
    assert (row["status"], row["result"]) == ("failed", None)
    assert cli("verify", graph.parent).code == 5, "of the bundle itself, which is damaged"


def test_all_devices_fail(cli: Any, fleet: Fleet, run_dir: Path, tmp_path: Path) -> None:
    fleet.add("bare", f'exec "{sys.executable}" -I -S "$@"')
    fleet.add("other", target="raspberry-pi-5" if sys.platform != "linux" else other_architecture())
    outcome = cli("bench", run_dir, "--fleet", fleet.file(), *OPTIONS, "-o", tmp_path / "out", "--json")
    assert outcome.code == 4
    failed = {row["name"]: row["error"] for row in outcome.json["failed_devices"]}
    assert "no numpy and no onnxruntime" in failed["bare"]
    assert "and its profile" in failed["other"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["budget_met"] is False
    assert all(check["met"] is None for check in report["budget_checks"])


def other_architecture() -> str:
    """A shipped profile of a processor that this machine has not."""
    from pocketformer.targets.profile import list_targets
    from pocketformer.targets.support import machine_architecture

    return next(p.name for p in list_targets() if p.architecture not in ("any", machine_architecture())
                and p.runtime == "onnxruntime")  # fmt: skip


def test_an_engine_beside_a_device_that_is_away(cli: Any, run_dir: Path, tmp_path: Path) -> None:
    try:
        load_library()
    except MissingDependencyError as error:
        pytest.skip(f"{error.message}; {error.hint}")
    away = tmp_path / "away.yaml"
    away.write_text("name: away\ndescription: Not there\nreach: ssh://me@127.0.0.1:1\n")
    targets = ("--target", "tensorrt-rtx-sm89", "--target", away)
    outcome = cli("bench", run_dir, *targets, *OPTIONS, "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "Error: away: ssh://me@127.0.0.1:1 refuses connections" in outcome.err
    rows = rows_of(tmp_path / "out")
    assert rows["away"]["status"] == "failed"
    built = rows["tensorrt-rtx-sm89"]
    assert built["status"] == "built"
    assert built["engine"]["precision"] == "fp16"
    assert built["engine"]["compute_capabilities"] == ["8.9"]
    assert built["engine"]["layers"]["fp16"] > 0
    assert built["result"] is None
    engine = tmp_path / "out/stages/01-bench/engines/tensorrt-rtx-sm89/model.engine"
    assert engine.stat().st_size / 1e6 == built["engine"]["file_mb"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--identity", "key"), 2, "need a --target with an address"),
        (("--target", "raspberry-pi-5"), 4, "nothing says at which address"),
        (("--fleet", "none.yaml"), 2, "no such fleet file"),
        (("--target", "ssh://me@a", "--target", "ssh://you@a"), 2, "two devices are called 'a'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    cli: Any, run_dir: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    outcome = cli("bench", run_dir, *arguments, "-o", tmp_path / "out")
    assert outcome.code == code
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_candidates_are_chosen_where_they_are_timed(
    cli: Any, tiny_files: Any, run_dir: Path, tmp_path: Path
) -> None:
    train, _ = tiny_files
    outcome = cli("compress", run_dir, "--train", train, "--target", "ssh://me@board", "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "candidates are timed on this machine" in outcome.err
    assert "--target cpu --target ssh://me@board" in outcome.err
    assert not (tmp_path / "out").exists()


def test_an_interrupted_bench_leaves_nothing_on_its_devices(
    cli: Any, fleet: Fleet, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketformer.cli.progress import TerminalListener

    def note(_: TerminalListener, text: str) -> None:
        if text == "board: measuring real":
            raise KeyboardInterrupt

    monkeypatch.setattr(TerminalListener, "note", note)
    fleet.add("board")
    fleet.add("next")
    outcome = cli("bench", run_dir, "--fleet", fleet.file(), "--rounds", "100000", "-o", tmp_path / "out")
    assert outcome.code == 130
    assert "Run the same command again" in outcome.err
    assert not (tmp_path / "out" / "report.json").exists()
    # `loopback` looks whether anything is left there or runs there.
