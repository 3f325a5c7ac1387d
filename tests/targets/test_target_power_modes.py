"""Power modes and clocks: what others posted from their boards is read, and any text is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.targets.power_modes import (
    ClockRange,
    ClockState,
    PowerMode,
    PowerModeList,
    parse_clocks,
    parse_power_mode,
    parse_power_mode_list,
)

FOLDER = Path(__file__).parent / "power_modes"


def text_of(name: str) -> str:
    first, _, text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").partition("\n")
    assert first.startswith("# source: ")
    return text


def test_the_query_in_all_its_spellings() -> None:
    assert parse_power_mode(text_of("nvpmodel-query-orin-nano")) == PowerMode("15W", 0)
    assert parse_power_mode(text_of("nvpmodel-query-thor")) == PowerMode("MAXN", 0)
    assert parse_power_mode(text_of("nvpmodel-query-xavier")) == PowerMode("MAXN", None, fan="quiet")
    nano = parse_power_mode(text_of("nvpmodel-query-nano"))
    assert nano == PowerMode("MAXN", 0, messages=("NVPM WARN: fan mode is not set!",))
    unprivileged = parse_power_mode(text_of("nvpmodel-query-nano-without-root"))
    assert (unprivileged.name, unprivileged.id) == ("5W", 1)
    assert len(unprivileged.messages) == 2


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", PowerMode()),
        ("bash: nvpmodel: command not found", PowerMode()),
        ("NV Power Mode", PowerMode()),
        ("NVPM VERB: Current mode: NV Power Mode: MODE_15W_6CORE\n2\n", PowerMode("MODE_15W_6CORE", 2)),
        ("NV Power Mode: MAXN\nNV Fan Mode:cool\n0", PowerMode("MAXN", None, fan="cool")),
        ("7\nNV Power Mode: 25W\r\n1\r\n", PowerMode("25W", 1)),
    ],
)
def test_the_id_is_the_number_below_the_mode(text: str, mode: PowerMode) -> None:
    assert parse_power_mode(text) == mode


def test_the_modes_of_a_board() -> None:
    xavier = parse_power_mode_list(text_of("nvpmodel-modes-xavier-nx"))
    assert xavier.modes[0] == (0, "MODE_15W_2CORE")
    assert [number for number, _ in xavier.modes] == list(range(9))
    nano = parse_power_mode_list(text_of("nvpmodel-conf-nano"))
    assert nano == PowerModeList(((0, "MAXN"), (1, "5W")))


def test_the_forms_of_a_mode_line() -> None:
    # The grammar is in NVIDIA/skills, jetson-customize-nvpmodel: any order of the attributes, one default.
    text = (
        "# < POWER_MODEL ID=9 NAME=OLD >\n< POWER_MODEL NAME=MAXN ID=3 >\n<POWER_MODEL ID=1 NAME=25W>\n"
        "< POWER_MODEL ID=3 NAME=AGAIN >\n< POWER_MODEL ID=x NAME=BAD >\n< PM_CONFIG DEFAULT=1 >\n"
    )
    assert parse_power_mode_list(text) == PowerModeList(((3, "MAXN"), (1, "25W")), default_id=1)


def test_clocks_that_move() -> None:
    state = parse_clocks(text_of("jetson-clocks-orin-nano"))
    assert (state.soc_family, state.machine) == ("tegra234", "NVIDIA Jetson Orin Nano Developer Kit")
    assert state.online_cpus == "0-5"
    assert [cpu.number for cpu in state.cpus] == list(range(6))
    assert state.cpus[0].governor == "ondemand"
    assert state.cpus[0].online
    assert state.cpus[0].khz == ClockRange(729600, 1510400, 960000)
    assert state.gpu_hz == ClockRange(306000000, 624750000, 306000000)
    assert state.memory_hz == ClockRange(204000000, 2133000000, 665600000)
    assert (state.memory_override, state.locked, state.power_mode) == (False, False, None)
    assert state.fan == "Dynamic Speed Control=kernel hwmon0_pwm1=88"
    nano = parse_clocks(text_of("jetson-clocks-nano"))
    assert (nano.power_mode, nano.fan, nano.locked) == ("MAXN", "speed=0", False)


def test_clocks_that_are_locked() -> None:
    state = parse_clocks(text_of("jetson-clocks-tx1"))
    assert state.machine == "jetson_tx1"
    assert (state.cpus[3].governor, state.cpus[3].online) == ("interactive", None)
    assert (state.memory_override, state.locked) == (True, True)


def test_a_core_that_is_switched_off_does_not_count() -> None:
    core = "cpu{}: Online={} Governor=schedutil MinFreq={} MaxFreq=900 CurrentFreq=900 IdleStates: WFI=1\n"
    gpu = "GPU MinFreq=5 MaxFreq=5 CurrentFreq=5\n"
    state = parse_clocks(core.format(10, 0, 100) + core.format(2, 1, 900) + gpu)
    assert [cpu.number for cpu in state.cpus] == [2, 10]
    assert state.locked
    assert parse_clocks(gpu).locked is None
    assert parse_clocks("").locked is None


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parse_power_mode(text)
    parse_power_mode_list(text)
    assert isinstance(parse_clocks(text), ClockState)


@given(
    st.sampled_from(sorted(path.stem for path in FOLDER.glob("*.txt"))),
    st.integers(0, 900),
    st.integers(0, 30),
    st.text(max_size=5),
)
def test_a_damaged_text_is_read(name: str, start: int, length: int, inserted: str) -> None:
    text = text_of(name)
    text = text[:start] + inserted + text[start + length :]
    parse_power_mode(text)
    parse_power_mode_list(text)
    parse_clocks(text).locked  # noqa: B018
