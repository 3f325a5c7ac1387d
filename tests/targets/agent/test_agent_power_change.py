"""Power modes are changed on request and put back, on stand-ins for a Jetson's tools: tests/targets/stand_ins."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketformer.runtime.errors import DeviceError

STORE, LOCK, RESTORE = "jetson_clocks --store", "jetson_clocks", "jetson_clocks --restore"
STAND_INS = Path(__file__).parents[1] / "stand_ins"
# Makes the agent take itself for a user other than root.
NOT_ROOT = (
    "-c",
    "import os, runpy, sys; os.environ['STAND_IN_NEEDS_SUDO'] = '1'; os.geteuid = lambda: 1000; del sys.argv[0]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')",
)


def calls(board: Path) -> list[str]:
    return (board / "calls").read_text().splitlines()


@pytest.fixture
def measure(
    board: Path, run_agent: Any, bundle: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Run the agent's ``measure`` beside the stand-ins."""
    monkeypatch.setenv("STAND_IN_STATE", str(board))
    monkeypatch.setenv("PATH", f"{STAND_INS}{os.pathsep}{os.environ['PATH']}")

    def run(*options: str, python: tuple[str, ...] = ()) -> Any:
        brief = ("--rounds", "1", "--time-limit", "0.1", "--energy-time", "0")
        return run_agent("measure", bundle, inputs, *brief, *options, python=python)

    return run


def power_of(spoken: Any) -> dict[str, Any]:
    """What the last of the agent's power events says."""
    told = spoken.of("power")[-1]
    return {name: told[name] for name in ("before", "during", "after", "restored", "by_hand")}


def stored(bundle: Path) -> list[Path]:
    return list(bundle.parent.glob("pocketformer-clocks-*"))


def test_mode_and_clocks_are_changed_and_put_back(measure: Any, board: Path, bundle: Path) -> None:
    spoken = measure("--power-mode", "maxn_super", "--jetson-clocks")
    assert spoken.code == 0, spoken.err
    found = {"mode": "15W", "clocks_locked": False}
    meanwhile = {"mode": "MAXN_SUPER", "clocks_locked": True}
    first, last = spoken.of("power")
    assert first["restored"] is None
    assert first["during"] == meanwhile
    assert power_of(spoken) == {
        "before": found, "during": meanwhile, "after": found, "restored": True, "by_hand": None,
    }  # fmt: skip
    assert last["asked"] == "maxn_super"
    assert spoken.of("result")[0]["power"] == meanwhile
    assert calls(board) == [STORE, "nvpmodel -m 2", LOCK, "nvpmodel -m 0", RESTORE]
    assert stored(bundle) == []


def test_clocks_that_were_locked_before_are_locked_again(measure: Any, board: Path) -> None:
    (board / "locked").touch()
    spoken = measure("--power-mode", "1")
    assert spoken.code == 0, spoken.err
    told = power_of(spoken)
    assert told["before"] == told["after"] == {"mode": "15W", "clocks_locked": True}
    assert told["during"] == {"mode": "25W", "clocks_locked": False}
    assert (board / "locked").exists()


def test_clocks_alone(measure: Any, board: Path) -> None:
    spoken = measure("--jetson-clocks")
    assert spoken.code == 0, spoken.err
    assert power_of(spoken)["during"] == {"mode": "15W", "clocks_locked": True}
    assert calls(board) == [STORE, LOCK, RESTORE]
    assert not (board / "locked").exists()


def test_nothing_is_touched_for_the_mode_that_is_in_use(measure: Any, board: Path) -> None:
    (board / "password").touch()
    spoken = measure("--power-mode", "15w")
    assert spoken.code == 0, spoken.err
    assert power_of(spoken)["restored"] is True
    assert calls(board) == []


def test_without_a_request_nothing_is_asked_or_told(measure: Any, board: Path) -> None:
    spoken = measure()
    assert spoken.code == 0, spoken.err
    assert spoken.of("power") == []
    assert calls(board) == []


def test_a_job_that_fails_leaves_the_mode_as_it_was(measure: Any, board: Path, bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"no graph")
    spoken = measure("--power-mode", "25W")
    assert spoken.code != 0
    assert power_of(spoken)["restored"] is True
    assert spoken.events[-1] == spoken.error
    assert calls(board) == [STORE, "nvpmodel -m 1", "nvpmodel -m 0", RESTORE]
    assert stored(bundle) == []


def test_a_mode_that_wants_a_reboot_is_refused(measure: Any, board: Path, bundle: Path) -> None:
    (board / "asks").write_text("3\n")
    spoken = measure("--power-mode", "7W")
    assert spoken.code == 4
    assert spoken.error["kind"] == "needs-reboot"
    assert "would have to reboot for power mode 3" in spoken.error["message"]
    assert "nothing was changed" in spoken.error["message"]
    assert "sudo nvpmodel -m 3" in spoken.error["hint"]
    assert calls(board) == [STORE, "nvpmodel -m 3"], "no reboot, and nothing to put back"
    assert (board / "mode").read_text() == "0\n"
    assert stored(bundle) == []


def test_a_user_without_rights_is_refused(measure: Any, board: Path, bundle: Path) -> None:
    (board / "password").touch()
    spoken = measure("--power-mode", "25W", python=NOT_ROOT)
    assert spoken.code == 4
    assert spoken.error["kind"] == "no-rights"
    assert "administrator's rights" in spoken.error["message"]
    assert f"NOPASSWD: {STAND_INS}/nvpmodel, {STAND_INS}/jetson_clocks" in spoken.error["hint"]
    assert calls(board) == []
    assert stored(bundle) == []


def test_a_user_who_may_use_sudo_changes_and_puts_back(measure: Any, board: Path) -> None:
    spoken = measure("--power-mode", "25W", "--jetson-clocks", python=NOT_ROOT)
    assert spoken.code == 0, spoken.events
    assert power_of(spoken)["during"] == {"mode": "25W", "clocks_locked": True}
    assert power_of(spoken)["restored"] is True
    assert calls(board) == [STORE, "nvpmodel -m 1", LOCK, "nvpmodel -m 0", RESTORE]


@pytest.mark.parametrize(
    ("broken", "options", "message", "called"),
    [
        ("store", ("--power-mode", "25W"), "could not store the clocks: Error: file", [STORE]),
        (
            "clocks",
            ("--power-mode", "25W", "--jetson-clocks"),
            "could not lock the clocks: Error: Unknown GPU Type!",
            [STORE, "nvpmodel -m 1", LOCK, "nvpmodel -m 0", RESTORE],
        ),
    ],
)
def test_a_tool_that_fails_ends_the_job_with_all_as_before(
    measure: Any,
    board: Path,
    bundle: Path,
    broken: str,
    options: tuple[str, ...],
    message: str,
    called: list[str],
) -> None:
    (board / "broken").write_text(broken)
    spoken = measure(*options)
    assert (spoken.code, spoken.error["kind"]) == (4, "power-refused")
    assert message in spoken.error["message"]
    assert calls(board) == called
    assert (board / "mode").read_text() == "0\n"
    assert stored(bundle) == []


def test_what_could_not_be_put_back_is_told_loudly(measure: Any, board: Path, bundle: Path) -> None:
    (board / "broken").write_text("restore")
    spoken = measure("--power-mode", "25W")
    assert spoken.code == 0, spoken.err
    told = power_of(spoken)
    assert told["restored"] is False
    assert told["after"]["mode"] == "25W"
    (place,) = stored(bundle)
    assert told["by_hand"] == f"sudo nvpmodel -m 0 && sudo jetson_clocks --restore {place}/clocks.conf"
    (warning,) = [event for event in spoken.of("warning") if event["kind"] == "power-not-restored"]
    assert (
        "WAS NOT PUT BACK: it was 15W and is 25W (NVPM ERROR: failed to set power mode!)"
        in warning["message"]
    )
    assert told["by_hand"] in warning["message"]


@pytest.mark.parametrize(
    ("mode", "hint"),
    [("25", "Did you mean 25W?"), ("9", "Name one of these"), ("MAXN_SUPPER", "MAXN_SUPER?")],
)
def test_a_mode_that_the_board_has_not(measure: Any, board: Path, mode: str, hint: str) -> None:
    spoken = measure("--power-mode", mode)
    assert spoken.code == 2
    assert (
        f"no power mode {mode!r}; it has: 15W (0), 25W (1), MAXN_SUPER (2), 7W (3)" in spoken.error["message"]
    )
    assert hint in spoken.error["hint"]
    assert calls(board) == []


@pytest.mark.parametrize("option", [("--power-mode", "15W"), ("--jetson-clocks",)])
def test_a_device_without_power_modes_is_refused(
    run_agent: Any, bundle: Path, inputs: Path, option: tuple[str, ...]
) -> None:
    spoken = run_agent("measure", bundle, inputs, *option)
    assert (spoken.code, spoken.error["kind"]) == (4, "no-power-modes")
    assert "no nvpmodel" in spoken.error["message"]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_agent_that_is_ended_leaves_the_mode_as_it_was(
    loopback: Any, board: Path, tiny_bundle: Path, tiny_texts: list[str], end: signal.Signals
) -> None:
    pids: list[int] = []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "hello":
            pids.append(event["pid"])
        if event.get("message") == "measuring real":
            assert (board / "mode").read_text() == "1\n"
            os.kill(pids[-1], end)

    measure_until(loopback, board, tiny_bundle, tiny_texts, hear, f"was killed .{end.name}.")
    assert back(board)


def test_a_link_that_drops_leaves_the_mode_as_it_was(
    loopback: Any, board: Path, tiny_bundle: Path, tiny_texts: list[str]
) -> None:
    def hear(event: dict[str, Any]) -> None:
        if event.get("message") == "measuring real":
            loopback.server.drop_links()

    measure_until(loopback, board, tiny_bundle, tiny_texts, hear, "connection to .* was lost")
    assert back(board)
    # `loopback` looks whether the stored clocks are left there.


def measure_until(
    loopback: Any,
    board: Path,
    bundle: Path,
    texts: list[str],
    hear: Callable[[dict[str, Any]], None],
    error: str,
) -> None:
    """Measure for hours in 25W with locked clocks over SSH; ``hear`` brings the ``error`` about."""
    loopback.python_that(f'. "{board}/environment"; exec "$PY" "$@"')
    loopback.hear = hear
    with loopback.device() as device:
        device.push(bundle)
        with pytest.raises(DeviceError, match=error):
            device.measure(texts, rounds=100_000_000, time_limit_s=3600, power_mode="25W", jetson_clocks=True)


def back(board: Path) -> bool:
    """Whether all was put back, when there has been time to."""
    expected = [STORE, "nvpmodel -m 1", LOCK, "nvpmodel -m 0", RESTORE]
    deadline = time.monotonic() + 15
    while calls(board) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return calls(board) == expected and (board / "mode").read_text() == "0\n"
