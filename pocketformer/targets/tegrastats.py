"""Reads the lines that NVIDIA's ``tegrastats`` prints on Jetson boards, and turns them into power and energy.

What a line holds differs with the board and the JetPack release. NVIDIA describes the fields under "Reported
Statistics" of "Tegrastats Utility" in the Jetson Linux developer guide; the lines that people posted from real
boards, which the tests read, go beyond it. Nothing here raises on any text: words that are not understood are
kept in ``unknown``. Everything is parsed from text, so no board is needed, and none was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

# The temperature that a sensor reports while its part of the chip is powered off.
_SENSOR_OFF_C = -256.0


@dataclass(frozen=True)
class Load:
    """How busy a part is, in percent, and its clock, in MHz; None for what the line does not say."""

    percent: int | None = None
    mhz: int | None = None
    off: bool = False


@dataclass(frozen=True)
class FreeBlocks:
    """The largest block of memory that is free in one piece, in kB of 1024 bytes, and how many there are."""

    count: int
    kb: int


@dataclass(frozen=True)
class RailPower:
    """One power rail in mW: now, averaged and at most since tegrastats began. Near zero a reading may be negative."""

    instant: int
    average: int | None = None
    maximum: int | None = None


@dataclass(frozen=True)
class TegrastatsSample:
    """One line. A field is None or empty where the line says nothing of it.

    Memory is in MB of 2^20 bytes, clocks in MHz, temperatures in degrees C (None: the sensor is off), power in
    mW. ``cpus`` has one entry a core, None for a core that is switched off. ``gpu_mhz`` has one entry for each
    graphics processing cluster (GPC) that the line lists. ``engines`` are named without the ``_FREQ`` that some
    releases add. ``unknown`` holds the words that were not understood.
    """

    timestamp: datetime | None = None
    ram_used_mb: int | None = None
    ram_total_mb: int | None = None
    largest_free_blocks: FreeBlocks | None = None
    swap_used_mb: int | None = None
    swap_total_mb: int | None = None
    swap_cached_mb: int | None = None
    iram_used_kb: int | None = None
    iram_total_kb: int | None = None
    mts_foreground_percent: int | None = None
    mts_background_percent: int | None = None
    cpus: tuple[Load | None, ...] = ()
    emc: Load | None = None
    gpu_percent: int | None = None
    gpu_mhz: tuple[int, ...] = ()
    engines: Mapping[str, Load] = field(default_factory=dict)
    temperatures_c: Mapping[str, float | None] = field(default_factory=dict)
    rails_mw: Mapping[str, RailPower] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def parse_tegrastats(line: str) -> TegrastatsSample:
    """One line of tegrastats; any text gives a sample. A field that comes twice counts once, the second is unknown."""
    fields: dict[str, Any] = {"engines": {}, "temperatures_c": {}, "rails_mw": {}}
    unknown: list[str] = []
    text = " ".join(line.split())
    position = 0
    while position < len(text):
        for pattern, read in _FIELDS:
            match = pattern.match(text, position)
            if match is not None and read(match, fields):
                end = match.end()
                break
        else:
            space = text.find(" ", position)
            end = len(text) if space < 0 else space
            unknown.append(text[position:end])
        position = end + 1
    return TegrastatsSample(**fields, unknown=tuple(unknown))


def input_rail(sample: TegrastatsSample) -> str | None:
    """The rail that carries everything the board or module takes in, or None where no such rail is known."""
    return next((name for name in _INPUT_RAILS if name in sample.rails_mw), None)


def total_power_mw(sample: TegrastatsSample) -> int | None:
    """The power of the input rail at this moment in mW; None where no rail is known to be the total."""
    rail = input_rail(sample)
    return None if rail is None else sample.rails_mw[rail].instant


def energy_j(samples: Sequence[tuple[float, TegrastatsSample]], idle_mw: float | None = None) -> float | None:
    """Energy in J of samples with their monotonic seconds, by the trapezoid rule; less ``idle_mw`` where given.

    None with fewer than two samples, or when they do not all have the same input rail: a sum over part of the
    time would look like a total. ``ValueError`` when the seconds go backwards.
    """
    rails = {input_rail(sample) for _, sample in samples}
    if len(samples) < 2 or len(rails) != 1 or None in rails:
        return None
    points = [(seconds, float(total_power_mw(sample) or 0) - (idle_mw or 0.0)) for seconds, sample in samples]
    return integrate_power_j(points)


def integrate_power_j(points: Sequence[tuple[float, float]]) -> float:
    """Energy in J of (monotonic seconds, mW) by the trapezoid rule; ``ValueError`` when the seconds go backwards."""
    millijoules = 0.0
    for index in range(1, len(points)):
        (before, first), (after, second) = points[index - 1], points[index]
        if after < before:
            raise ValueError(f"the seconds of the samples go backwards, from {before} to {after}")
        millijoules += (after - before) * (first + second) / 2
    return millijoules / 1000.0


# Which rail is the whole, in the order in which they are looked for; no known line has two of them.
_INPUT_RAILS = (
    # Jetson Thor developer kit: the INA238 on the carrier board, module and carrier together (NVIDIA's answer in
    # forums.developer.nvidia.com/t/366461). A carrier without that chip has no such rail.
    "VIN",
    # TX1, TX2, Xavier NX, Orin Nano, Orin NX: the module without its carrier board. "VDD_IN is the total power of
    # module" (NVIDIA's answer on Xavier NX in forums.developer.nvidia.com/t/200883); the TX boards in
    # github.com/energymon/energymon, jetson/JetsonPowerRails.md; Orin NX in github.com/ARK-Electronics/
    # ark_jetson_kernel, docs/power.md.
    "VDD_IN",
    # Nano: what NVIDIA's guide calls VDD_IN (JetsonPowerRails.md again). POM_5V_GPU and POM_5V_CPU are part of it.
    "POM_5V_IN",
    # Nothing for AGX Xavier (GPU, CPU, SOC, CV, VDDRQ, SYS5V) and AGX Orin (VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0):
    # their rails lie side by side and none feeds the others (JetsonPowerRails.md and its README.md). SYS5V and
    # VIN_SYS_5V0 are the 5 V input of the module, not its power; nor is VIN_SYS_5V0 on Thor.
)

# At most nine digits: enough for any figure, and int() refuses strings of thousands.
_INT = r"\d{1,9}"
_END = r"(?= |$)"
_LOAD = rf"(?:(?P<percent>{_INT})%)?(?:@(?P<mhz>{_INT}))?"
_POWER = rf"-?{_INT}"
_CORE = re.compile(rf"\s*(?:(?P<off>off)|(?P<percent>{_INT})%(?:@(?P<mhz>{_INT}))?)\s*", re.ASCII)
_UNIT_KB = {"k": 1, "M": 1024, "G": 1024 * 1024}

Reader = Callable[["re.Match[str]", "dict[str, Any]"], bool]


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)


def _set_once(fields: dict[str, Any], **values: Any) -> bool:
    """Store the values unless one of them is there already."""
    if any(name in fields for name in values):
        return False
    fields.update(values)
    return True


def _put_once(table: dict[str, Any], name: str, value: Any) -> bool:
    if name in table:
        return False
    table[name] = value
    return True


def _read_timestamp(match: re.Match[str], fields: dict[str, Any]) -> bool:
    year, month, day = (int(match[part] or match[f"{part}_first"]) for part in ("year", "month", "day"))
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    try:
        moment = datetime(year, month, day, hour, minute, second)
    except ValueError:
        return False
    return match.start() == 0 and _set_once(fields, timestamp=moment)


def _read_ram(match: re.Match[str], fields: dict[str, Any]) -> bool:
    blocks = None
    if match["count"] is not None:
        blocks = FreeBlocks(int(match["count"]), int(match["size"]) * _UNIT_KB[match["unit"]])
    return _set_once(
        fields, ram_used_mb=int(match["used"]), ram_total_mb=int(match["total"]), largest_free_blocks=blocks
    )


def _read_swap(match: re.Match[str], fields: dict[str, Any]) -> bool:
    return _set_once(
        fields,
        swap_used_mb=int(match["used"]),
        swap_total_mb=int(match["total"]),
        swap_cached_mb=_integer(match["cached"]),
    )


def _read_iram(match: re.Match[str], fields: dict[str, Any]) -> bool:
    return _set_once(fields, iram_used_kb=int(match["used"]), iram_total_kb=int(match["total"]))


def _read_mts(match: re.Match[str], fields: dict[str, Any]) -> bool:
    return _set_once(
        fields,
        mts_foreground_percent=int(match["foreground"]),
        mts_background_percent=int(match["background"]),
    )


def _read_cpus(match: re.Match[str], fields: dict[str, Any]) -> bool:
    """``[X%@Z,...]`` with a clock for each core, or ``[X%,...]@Z`` with one for all."""
    cores: list[Load | None] = []
    for text in match["cores"].split(","):
        core = _CORE.fullmatch(text)
        if core is None:
            return False
        load = Load(_integer(core["percent"]), _integer(core["mhz"] or match["mhz"]))
        cores.append(None if core["off"] else load)
    return _set_once(fields, cpus=tuple(cores))


def _read_emc(match: re.Match[str], fields: dict[str, Any]) -> bool:
    return _set_once(fields, emc=_load(match))


def _read_gpu(match: re.Match[str], fields: dict[str, Any]) -> bool:
    """The load is of the GPU as a whole; GR3D2 only adds the clock of a second GPC."""
    clocks = match["list"] or match["mhz"]
    mhz = tuple(int(clock) for clock in clocks.split(",")) if clocks else ()
    if match["second"] is None:
        return _set_once(fields, gpu_percent=_integer(match["percent"]), gpu_mhz=mhz)
    if len(fields.get("gpu_mhz", ())) != 1:
        return False
    fields["gpu_mhz"] += mhz
    return True


def _read_engine(match: re.Match[str], fields: dict[str, Any]) -> bool:
    return _put_once(fields["engines"], match["name"], _load(match))


def _read_temperature(match: re.Match[str], fields: dict[str, Any]) -> bool:
    celsius = float(match["celsius"])
    value = None if celsius <= _SENSOR_OFF_C else celsius
    return _put_once(fields["temperatures_c"], match["name"], value)


def _read_rail(match: re.Match[str], fields: dict[str, Any]) -> bool:
    if match["name"] == "NC":  # "not connected": an input of the power monitor that measures nothing
        return True
    power = RailPower(int(match["instant"]), _integer(match["average"]), _integer(match["maximum"]))
    return _put_once(fields["rails_mw"], match["name"], power)


def _load(match: re.Match[str]) -> Load:
    groups = match.groupdict()
    mhz = groups["mhz"] or groups.get("bare")
    return Load(_integer(groups["percent"]), _integer(mhz), off=groups["off"] is not None)


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern + _END, re.ASCII)


def _rail(name: str, unit: str, average: str = "") -> re.Pattern[str]:
    return _compile(
        rf"(?P<name>{name}) (?P<instant>{_POWER}){unit}"
        rf"(?:/(?P<average>{_POWER}){unit}){average}(?:/(?P<maximum>{_POWER}){unit})?"
    )


_FIELDS: tuple[tuple[re.Pattern[str], Reader], ...] = (
    (
        _compile(
            r"(?:(?P<month_first>\d{2})-(?P<day_first>\d{2})-(?P<year_first>\d{4})"
            r"|(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2}))"
            r"(?:[ T](?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})(?:\.\d{1,9})?)?"
        ),
        _read_timestamp,
    ),
    (
        _compile(
            rf"RAM (?P<used>{_INT})/(?P<total>{_INT})MB"
            rf"(?: ?\(lfb (?P<count>{_INT})x(?P<size>{_INT})(?P<unit>[kMG])B\))?"
        ),
        _read_ram,
    ),
    (
        _compile(rf"SWAP (?P<used>{_INT})/(?P<total>{_INT})MB(?: ?\(cached (?P<cached>{_INT})MB\))?"),
        _read_swap,
    ),
    (_compile(rf"IRAM (?P<used>{_INT})/(?P<total>{_INT})kB(?: ?\(lfb {_INT}kB\))?"), _read_iram),
    (_compile(rf"MTS fg (?P<foreground>{_INT})% bg (?P<background>{_INT})%"), _read_mts),
    (_compile(rf"(?:CPU|cpu) \[(?P<cores>[^\[\]]*)\](?:@(?P<mhz>{_INT}))?"), _read_cpus),
    (_compile(rf"EMC(?:_FREQ)? (?:(?P<off>off)|(?=[\d@]){_LOAD})"), _read_emc),
    (
        _compile(
            rf"GR3D(?P<second>2)?(?:_FREQ)? (?:off|(?=[\d@])(?:(?P<percent>{_INT})%)?"
            rf"(?:@(?:(?P<mhz>{_INT})|\[(?P<list>{_INT}(?:,{_INT}){{0,63}})\]))?)"
        ),
        _read_gpu,
    ),
    (
        _compile(
            r"(?P<name>(?:NVENC|NVDEC|NVJPG|MSENC|VIC|APE|OFA|NVDLA|DLA|PVA|SE)\d{0,2})(?:_FREQ)? "
            rf"(?:(?P<off>off)|(?P<bare>{_INT})|(?=[\d@]){_LOAD})"
        ),
        _read_engine,
    ),
    (
        # JetPack 7 adds the highest value so far behind a slash.
        _compile(
            r"(?P<name>[A-Za-z][\w-]{0,63})@(?P<celsius>-?\d{1,9}(?:\.\d{1,9})?)C"
            r"(?:/-?\d{1,9}(?:\.\d{1,9})?C)?"
        ),
        _read_temperature,
    ),
    (_rail(r"[A-Za-z]\w{0,63}", "mW", average="?"), _read_rail),
    # JetPack 4 prints no unit, so that only names which are known to be rails count.
    (_rail(r"(?:VDD|VIN|POM|VDDQ)_\w{1,63}|VIN|GPU|CPU|SOC|CV|VDDRQ|SYS5V|NC", ""), _read_rail),
)
