"""What the agent learns of power, from stand-ins for a Jetson's tools that replay text recorded on boards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketformer.targets.agent import power

RECORDED = Path(__file__).parents[1]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script of this name and body on the PATH, which holds no tool of a board otherwise."""
    place = tmp_path / "tools"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(power, "_PLACES", str(place))

    def put(name: str, body: str) -> None:
        (place / name).write_text(f"#!/bin/sh\n{body}\n")
        (place / name).chmod(0o755)

    return put


def replaying(folder: Path, lines: list[str], pause: float = 0.01) -> str:
    (folder / "recorded.txt").write_text("\n".join(lines) + "\n")
    loop = f"while read -r line; do echo \"$line\"; sleep {pause}; done < '{folder}/recorded.txt'"
    return f"while :; do {loop}; done"


def test_a_device_that_tells_nothing(stand_in: Any) -> None:
    assert power.state() is None
    assert not power.tells()
    assert power.measure_energy(lambda: None, 0.1) is None


def test_the_mode_and_the_clocks_are_read(stand_in: Any) -> None:
    modes = RECORDED / "power_modes"
    stand_in("nvpmodel", f"cat '{modes}/nvpmodel-query-orin-nano.txt'")
    assert power.state() == {"mode": "15W", "clocks_locked": None}
    stand_in("jetson_clocks", f"cat '{modes}/jetson-clocks-nano.txt'")
    state = power.state()
    assert state is not None
    assert isinstance(state["clocks_locked"], bool)
    stand_in("nvpmodel", "echo no rights >&2; exit 1")
    stand_in("jetson_clocks", "exit 1")
    assert power.state() == {"mode": None, "clocks_locked": None}


def test_energy_is_mean_power_over_time_by_inference(
    stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "_IDLE_S", 0.3)
    stand_in("tegrastats", replaying(tmp_path, ["RAM 1/2MB VDD_IN 4000mW/4000mW VDD_CPU_GPU_CV 500mW/500mW"]))
    calls = []
    told = power.measure_energy(lambda: calls.append(time.sleep(0.02)), 0.4)
    assert told is not None
    assert told["inferences"] == len(calls)
    assert told["mean_mw"] == pytest.approx(4000)
    assert told["idle_mw"] == pytest.approx(4000)
    assert told["rail"] == "VDD_IN"
    assert told["samples"] >= 5
    assert told["per_inference_mj"] == pytest.approx(4000 * told["seconds"] / len(calls))


@pytest.mark.parametrize(
    "line",
    [
        "VDD_GPU_SOC 2000mW/2000mW VDD_CPU_CV 400mW/400mW",  # AGX Orin: no rail carries everything
        "a tool that changed its language",
    ],
)
def test_power_that_is_not_the_whole_gives_no_energy(
    stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(power, "_IDLE_S", 0.05)
    stand_in("tegrastats", replaying(tmp_path, [line]))
    assert power.measure_energy(lambda: time.sleep(0.01), 0.3) is None


def test_a_tool_that_ends_at_once_gives_no_energy(stand_in: Any) -> None:
    stand_in("tegrastats", "exit 1")
    assert power.measure_energy(lambda: None, 0.05) is None


def test_a_tool_that_does_not_want_to_end_is_killed(
    stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "_IDLE_S", 0.2)
    monkeypatch.setattr(power, "_PATIENCE_S", 0.3)
    pid = tmp_path / "pid"
    stand_in("tegrastats", f"trap '' TERM; echo $$ > '{pid}'; while :; do echo RAM 1/2MB; sleep 0.05; done")
    assert power.measure_energy(lambda: time.sleep(0.01), 0.2) is None
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
