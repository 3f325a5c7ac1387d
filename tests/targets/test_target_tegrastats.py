"""tegrastats: every line that was found in public reads whole, any text reads, energy agrees with brute force."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.targets.tegrastats import (
    FreeBlocks,
    Load,
    RailPower,
    TegrastatsSample,
    energy_j,
    input_rail,
    parse_tegrastats,
    total_power_mw,
)

FILES = sorted((Path(__file__).parent / "tegrastats").glob("*.txt"))


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


CORPUS = {path.stem: lines_of(path) for path in FILES}
LINES = [line for lines in CORPUS.values() for line in lines]


def test_every_line_of_the_corpus_names_its_source() -> None:
    assert len(LINES) >= 30
    boards = ("nano-", "tx2", "xavier-nx", "agx-xavier", "orin-nano", "orin-nx", "agx-orin", "thor")
    assert all(any(board in name for name in CORPUS) for board in boards)
    for path in FILES:
        sourced = False
        for line in path.read_text(encoding="utf-8").splitlines():
            sourced = sourced or line.startswith("# source: ")
            assert sourced or line.startswith("#"), f"{path.name}: {line}"


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_corpus_is_understood_whole(line: str) -> None:
    sample = parse_tegrastats(line)
    assert sample.unknown == ()
    assert sample.ram_used_mb
    assert sample.ram_total_mb
    assert sample.ram_used_mb <= sample.ram_total_mb
    assert sample.largest_free_blocks
    assert any(sample.cpus)
    assert all(load is None or load.percent is not None for load in sample.cpus)
    assert (sample.timestamp is not None) == (line[2] == "-")
    assert ("GR3D" in line) == (sample.gpu_percent is not None or bool(sample.gpu_mhz))
    assert len(sample.rails_mw) == sum(
        "/" in value and not value.endswith(("MB", "kB(lfb", "C")) and name != "NC"
        for name, value in zip(line.split(), line.split()[1:], strict=False)
    )


def test_orin_nano() -> None:
    sample = parse_tegrastats(CORPUS["orin-nano-jetpack6"][0])
    assert sample.timestamp == datetime(2024, 11, 15, 8, 38, 9)
    assert (sample.ram_used_mb, sample.ram_total_mb) == (6185, 7620)
    assert sample.largest_free_blocks == FreeBlocks(count=8, kb=2048)
    assert (sample.swap_used_mb, sample.swap_total_mb, sample.swap_cached_mb) == (851, 3810, 1)
    assert sample.cpus[0] == Load(percent=15, mhz=729)
    assert sample.emc == Load(percent=43, mhz=2133)
    assert (sample.gpu_percent, sample.gpu_mhz) == (63, (621,))
    assert sample.engines["NVDEC"] == Load(off=True)
    assert sample.engines["APE"] == Load(mhz=200)
    assert sample.temperatures_c["tj"] == 53.968
    assert sample.rails_mw["VDD_IN"] == RailPower(instant=12479, average=12479)
    assert (input_rail(sample), total_power_mw(sample)) == ("VDD_IN", 12479)


def test_tx1_with_the_spelling_of_l4t_28() -> None:
    sample = parse_tegrastats(CORPUS["tx1"][1])
    assert [load and (load.percent, load.mhz) for load in sample.cpus] == [
        (17, 1734),
        (11, 1734),
        (65, 1734),
        (0, 1734),
    ]
    assert (sample.emc, sample.gpu_percent, sample.gpu_mhz) == (Load(percent=1, mhz=1600), 39, (76,))
    assert total_power_mw(sample) is None


def test_nano_and_tx2() -> None:
    nano = parse_tegrastats(CORPUS["nano-jetpack4"][0])
    assert (nano.iram_used_kb, nano.iram_total_kb) == (0, 252)
    assert (input_rail(nano), total_power_mw(nano)) == ("POM_5V_IN", 1022)
    tx2 = parse_tegrastats(CORPUS["tx2-jetpack4"][2])
    assert (tx2.mts_foreground_percent, tx2.mts_background_percent) == (1, 1)
    assert (input_rail(tx2), total_power_mw(tx2)) == ("VDD_IN", 5297)
    assert parse_tegrastats(CORPUS["tx2-jetpack4"][0]).cpus[1:3] == (None, None)


def test_agx_boards_have_no_rail_that_is_the_total() -> None:
    xavier = parse_tegrastats(CORPUS["agx-xavier-jetpack4"][0])
    assert xavier.rails_mw["SYS5V"] == RailPower(instant=1482, average=1482)
    assert xavier.temperatures_c["CPU"] == 37.5
    orin = parse_tegrastats(CORPUS["agx-orin-jetpack5"][0])
    assert orin.temperatures_c["GPU"] is None
    assert orin.temperatures_c["tj"] == 44.343
    assert "NC" not in orin.rails_mw
    assert total_power_mw(xavier) is total_power_mw(orin) is None


def test_thor() -> None:
    sample = parse_tegrastats(CORPUS["thor-jetpack7"][3])
    assert (sample.gpu_percent, sample.gpu_mhz) == (None, (314, 314, 314))
    assert sample.engines["NVENC0"] == Load(mhz=1556)
    assert sample.engines["VIC"] == Load(percent=59, mhz=423)
    assert sample.engines["PVA0"] == Load(off=True)
    assert total_power_mw(sample) is None
    busy = parse_tegrastats(CORPUS["thor-jetpack7"][-1])
    assert busy.rails_mw["VIN"] == RailPower(instant=87426, average=43713, maximum=87426)
    assert (input_rail(busy), total_power_mw(busy)) == ("VIN", 87426)


@pytest.mark.parametrize(
    ("text", "load", "clocks"),
    [
        ("GR3D_FREQ 37%@624", 37, (624,)),
        ("GR3D_FREQ 0%@[510]", 0, (510,)),
        ("GR3D_FREQ 12%@[1300,1301]", 12, (1300, 1301)),
        ("GR3D_FREQ @[1,2,3]", None, (1, 2, 3)),
        ("GR3D_FREQ 0%", 0, ()),
        # rbonghi/jetson_stats issue 362: an early form of two GPCs.
        ("GR3D_FREQ 99%@917 GR3D2_FREQ 99%@0", 99, (917, 0)),
    ],
)
def test_forms_of_the_gpu(text: str, load: int | None, clocks: tuple[int, ...]) -> None:
    sample = parse_tegrastats(text)
    assert (sample.gpu_percent, sample.gpu_mhz, sample.unknown) == (load, clocks, ())


@pytest.mark.parametrize("text", ["NVENC 115", "NVENC 10%@115", "NVENC_FREQ @115", "VIC_FREQ off", "VIC off"])
def test_forms_of_an_engine(text: str) -> None:
    sample = parse_tegrastats(text)
    assert sample.unknown == ()
    assert next(iter(sample.engines.values())).off == text.endswith("off")


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("", ()),
        ("Hello 5/6 there", ("Hello", "5/6", "there")),
        ("RAM 1/2MB RAM 3/4MB", ("RAM", "3/4MB")),
        ("CPU [1%@2,x]", ("CPU", "[1%@2,x]")),
        ("GR3D2_FREQ 9%@3", ("GR3D2_FREQ", "9%@3")),
        ("13-45-2024 10:00:00 RAM 1/2MB", ("13-45-2024", "10:00:00")),
        ("RAM 1/2MB 11-15-2024 08:38:09", ("11-15-2024", "08:38:09")),
        ("VDD_IN 5 FOO 1/2", ("VDD_IN", "5", "FOO", "1/2")),
        ("RAM 12345678901/2MB", ("RAM", "12345678901/2MB")),
        ("GPU@C VDD_IN 1mW/x", ("GPU@C", "VDD_IN", "1mW/x")),
    ],
)
def test_what_is_not_understood_is_kept(text: str, unknown: tuple[str, ...]) -> None:
    assert parse_tegrastats(text).unknown == unknown


def test_leading_dates_and_negative_figures() -> None:
    assert parse_tegrastats("11-15-2024 RAM 1/2MB").timestamp == datetime(2024, 11, 15)
    assert parse_tegrastats("2024-11-15T08:38:09.5 RAM 1/2MB").timestamp == datetime(2024, 11, 15, 8, 38, 9)
    sample = parse_tegrastats("tj@-5.5C GPU@-256C VDD_GPU -392mW/-392mW")
    assert sample.temperatures_c == {"tj": -5.5, "GPU": None}
    assert sample.rails_mw["VDD_GPU"] == RailPower(instant=-392, average=-392)


@given(st.text())
def test_any_text_gives_a_sample(text: str) -> None:
    sample = parse_tegrastats(text)
    assert all(word in text for word in sample.unknown)
    total_power_mw(sample)


@settings(max_examples=300)
@given(
    st.sampled_from(LINES),
    st.lists(
        st.tuples(st.integers(0, 700), st.integers(0, 6), st.text(max_size=4) | st.sampled_from("0[]@%/-C ")),
        min_size=1,
        max_size=4,
    ),
)
def test_a_damaged_line_gives_a_sample(line: str, cuts: list[tuple[int, int, str]]) -> None:
    for start, length, inserted in cuts:
        line = line[:start] + inserted + line[start + length :]
    sample = parse_tegrastats(line)
    assert all(word in line for word in sample.unknown)
    total_power_mw(sample)


def powered(mw: int, rail: str = "VDD_IN") -> TegrastatsSample:
    return TegrastatsSample(rails_mw={rail: RailPower(mw)})


POINTS = st.lists(
    st.tuples(st.floats(0, 100, allow_subnormal=False), st.integers(-500, 200_000)), min_size=2, max_size=20
)


def by_brute_force(points: list[tuple[float, int]], idle: int) -> Fraction:
    """The area below each straight piece, from many thin strips in exact arithmetic."""
    area, strips = Fraction(0), 8
    for (before, first), (after, second) in pairwise(points):
        width = (Fraction(after) - Fraction(before)) / strips
        for strip in range(strips):
            middle = Fraction(2 * strip + 1, 2 * strips)
            area += width * (first - idle + (second - first) * middle)
    return area / 1000


@given(POINTS, st.integers(0, 50_000))
def test_energy_agrees_with_brute_force(points: list[tuple[float, int]], idle: int) -> None:
    seconds = sorted(second for second, _ in points)
    points = [(second, mw) for second, (_, mw) in zip(seconds, points, strict=True)]
    energy = energy_j([(second, powered(mw)) for second, mw in points], idle_mw=idle)
    assert energy == pytest.approx(float(by_brute_force(points, idle)), rel=1e-9, abs=1e-6)


@given(POINTS, st.integers(1, 18))
def test_the_energy_of_two_stretches_adds_up(points: list[tuple[float, int]], cut: int) -> None:
    seconds = sorted(second for second, _ in points)
    samples = [(second, powered(mw)) for second, (_, mw) in zip(seconds, points, strict=True)]
    cut = min(cut, len(samples) - 1)
    parts = [energy_j(samples[: cut + 1]), energy_j([samples[cut], samples[cut], *samples[cut + 1 :]])]
    assert energy_j(samples) == pytest.approx(sum(part or 0.0 for part in parts), rel=1e-9, abs=1e-6)


def test_energy_is_not_told_where_it_would_be_a_guess() -> None:
    assert energy_j([(0.0, powered(2000)), (3.0, powered(2000))]) == 6.0
    assert energy_j([(0.0, powered(2000)), (3.0, powered(2000))], idle_mw=500) == 4.5
    assert energy_j([]) is None
    assert energy_j([(0.0, powered(5))]) is None
    assert energy_j([(0.0, powered(5)), (1.0, TegrastatsSample())]) is None
    assert energy_j([(0.0, powered(5)), (1.0, powered(5, "VIN"))]) is None
    assert energy_j([(0.0, powered(5, "VDD_CPU_CV")), (1.0, powered(5, "VDD_CPU_CV"))]) is None
    with pytest.raises(ValueError, match=r"go backwards, from 1\.0 to 0\.0"):
        energy_j([(1.0, powered(5)), (0.0, powered(5))])
