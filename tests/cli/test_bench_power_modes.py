"""``bench`` in several power modes over real SSH to the loopback, whose Jetson is played by tests/targets/stand_ins."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

OPTIONS = ("--threads", "1", "--rounds", "5")


@pytest.fixture(autouse=True)
def brief() -> Iterator[None]:
    """Power is sampled for a second; nothing else in these benches is long."""
    from pocketformer.pipeline import devices

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_ENERGY_S", 1.0)
        yield


def python_of(board: Path, folder: Path, body: str = "") -> Path:
    """A Python on whose PATH the stand-ins are."""
    script = folder / "python-of-board"
    script.write_text(f'#!/bin/sh\n. "{board}/environment"\n{body}\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return script


def reach(loopback: Any, python: Path) -> dict[str, str]:
    server = loopback.server
    return {
        "address": server.address,
        "python": str(python),
        "folder": str(loopback.folder),
        "identity": str(server.key),
        "known_hosts": str(server.known_hosts),
    }


def options_of(values: dict[str, str]) -> list[str]:
    named = {
        "target" if name == "address" else name.replace("_", "-"): value for name, value in values.items()
    }
    return [part for name, value in named.items() for part in (f"--{name}", value)]


def rows_of(out: Path) -> dict[str, Any]:
    report = json.loads((out / "report.json").read_text())
    return {device["name"]: device for device in report["devices"]}


def test_a_sweep_has_a_row_a_mode(
    cli: Any, loopback: Any, board: Path, run_dir: Path, tmp_path: Path
) -> None:
    (board / "asks").write_text("3\n")
    out = tmp_path / "out"
    modes = [part for mode in ("25w", "2", "7W") for part in ("--power-mode", mode)]
    outcome = cli(
        "bench", run_dir, *options_of(reach(loopback, python_of(board, tmp_path))), *modes, "--jetson-clocks",
        *OPTIONS, "-o", out,
    )  # fmt: skip
    assert outcome.code == 4, "one of the modes wants a reboot"
    rows = rows_of(out)
    host = f"127.0.0.1:{loopback.server.port}"
    assert list(rows) == [f"{host}-{mode}" for mode in ("25w", "2", "7W")]
    *measured, refused = rows.values()
    assert [row["power"]["mode"] for row in measured] == ["25W", "MAXN_SUPER"]
    for row in measured:
        assert row["status"] == "measured"
        assert row["result"]["latency_ms"]["real"]["p50"] > 0
        assert row["energy"]["per_inference_mj"] > 0
        assert row["power"]["clocks_locked"] is True
        change = row["power"]["change"]
        assert change["before"] == change["after"] == {"mode": "15W", "clocks_locked": False}
        assert (change["restored"], change["jetson_clocks"], change["by_hand"]) == (True, True, None)
    assert [row["power"]["change"]["asked"] for row in measured] == ["25w", "2"]
    assert refused["status"] == "failed"
    assert "would have to reboot for power mode 3" in refused["error"]
    assert "nothing was changed" in refused["error"]
    assert (board / "mode").read_text() == "0\n"
    assert "rebooted" not in (board / "calls").read_text()
    for rendering in (outcome.out, (out / "report.html").read_text(), (out / "report.md").read_text()):
        assert "Mode" in rendering
        assert "MAXN_SUPER" in rendering.replace("\\_", "_")
    assert "was 15W, locked" in (out / "report.html").read_text()


def test_what_was_not_put_back_stands_in_the_row_of_a_fleet(
    cli: Any, loopback: Any, board: Path, run_dir: Path, tmp_path: Path
) -> None:
    (board / "broken").write_text("restore\n")
    device = {"name": "orin", **reach(loopback, python_of(board, tmp_path)), "power_mode": "MAXN_SUPER"}
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(yaml.safe_dump({"devices": [device]}))
    outcome = cli("bench", run_dir, "--fleet", fleet, *OPTIONS, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    row = rows_of(tmp_path / "out")["orin"]
    change = row["power"]["change"]
    assert (change["restored"], change["after"]["mode"]) == (False, "MAXN_SUPER")
    assert "sudo nvpmodel -m 0" in change["by_hand"]
    assert row["warnings"][0].startswith("THE POWER MODE WAS NOT PUT BACK")
    assert change["by_hand"] in row["warnings"][0]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "sudo nvpmodel -m 0" in page
    assert "not put back" in page
    assert "THE POWER MODE WAS NOT PUT BACK" in outcome.err
    for place in loopback.folder.glob("pocketformer-clocks-*"):  # they are kept for putting back by hand
        (place / "clocks.conf").unlink()
        place.rmdir()


def test_after_a_lost_link_the_row_says_whether_the_mode_is_back(
    cli: Any, loopback: Any, board: Path, run_dir: Path, tmp_path: Path
) -> None:
    # When measuring has begun, the half of sshd that serves the link is killed.
    drop = f"""case "$*" in *" measure "*)
        link=$(ps -o ppid= -p $PPID | tr -d " ")
        (for i in $(seq 600); do grep -q 1 "{board}/mode" && sleep 1 && kill -9 $link && exit; sleep 0.1; done) \
            </dev/null >/dev/null 2>&1 & ;;
    esac"""
    target = options_of(reach(loopback, python_of(board, tmp_path, drop)))
    outcome = cli(
        "bench",
        run_dir,
        *target,
        "--power-mode",
        "25W",
        "--threads",
        "1",
        "--rounds",
        "100000",
        "-o",
        tmp_path / "out",
    )
    assert outcome.code == 4
    (row,) = rows_of(tmp_path / "out").values()
    assert "was lost" in row["error"]
    assert row["power"]["mode"] == "25W"
    assert row["power"]["change"]["restored"] is True
    assert row["power"]["change"]["after"]["mode"] == "15W"
    assert (board / "mode").read_text() == "0\n"


def test_a_device_without_power_modes_is_refused(
    cli: Any, loopback: Any, run_dir: Path, tmp_path: Path
) -> None:
    target = options_of(reach(loopback, Path(sys.executable)))
    outcome = cli("bench", run_dir, *target, "--power-mode", "15W", *OPTIONS, "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "no nvpmodel" in outcome.err
    assert "Only Jetson boards have them" in outcome.err


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            {"target": "cpu", "power_mode": "15W"},
            "is this machine, and power modes are changed on devices over SSH",
        ),
        ({"target": "tensorrt-rtx-sm89", "jetson_clocks": True}, "is built and never run, and power modes"),
        (
            {"target": "raspberry-pi-5", "address": "ssh://me@a", "power_mode": [0, 1]},
            "target 'raspberry-pi-5' has no power modes",
        ),
    ],
)
def test_where_there_are_no_power_modes_nothing_begins(
    cli: Any, run_dir: Path, tmp_path: Path, device: dict[str, Any], message: str
) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(yaml.safe_dump({"devices": [device]}))
    outcome = cli("bench", run_dir, "--fleet", fleet, "-o", tmp_path / "out")
    assert outcome.code == 4
    assert message in outcome.err
    assert not (tmp_path / "out").exists()
