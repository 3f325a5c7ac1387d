"""Reads what a Jetson says of its power mode and clocks: ``nvpmodel`` and ``jetson_clocks --show``.

A latency means little without them: the same board is several times slower in another mode. Every parser takes
text and never raises; what a text does not say is None or empty. No board was at hand: the tests read what
others posted from theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# At most twelve digits: clocks are in Hz, and int() refuses strings of thousands.
_INT = r"\d{1,12}"
_MODE = re.compile(r"NV Power Mode: ?(\S.*)", re.ASCII)
_FAN_MODE = re.compile(r"NV Fan Mode: ?(\S+)", re.ASCII)
_MESSAGE = re.compile(r"NVPM (?:WARN|ERROR): .*")
_MODEL = re.compile(r"(?:<|NVPM VERB:) *POWER_MODEL\b:?([^>]*)", re.ASCII)
_MODEL_ID = re.compile(rf"\bID=({_INT})(?!\S)", re.ASCII)
_MODEL_NAME = re.compile(r"\bNAME=(\S+)", re.ASCII)
_DEFAULT = re.compile(rf"< *PM_CONFIG +DEFAULT=({_INT}) *>", re.ASCII)
_SOC = re.compile(r"SOC family: ?(\S+)(?:\s+Machine: ?(.*))?", re.ASCII)
_ONLINE = re.compile(r"Online CPUs: ?(\S+)", re.ASCII)
_RANGE = rf"MinFreq=(?P<minimum>{_INT}) MaxFreq=(?P<maximum>{_INT}) CurrentFreq=(?P<current>{_INT})(?!\S)"
# "Gonvernor" is how the script of L4T 28 spells it.
_CPU = re.compile(
    rf"cpu(?P<number>\d{{1,4}}): +(?:Online=(?P<online>[01]) )?Gon?vernor=(?P<governor>\S+) {_RANGE}",
    re.ASCII,
)
_GPU = re.compile(rf"GPU {_RANGE}", re.ASCII)
_EMC = re.compile(rf"EMC {_RANGE}(?: FreqOverride=(?P<override>[01]))?", re.ASCII)
_FAN = re.compile(r"(?:Fan: ?|FAN )(\S.*)", re.ASCII)


@dataclass(frozen=True)
class PowerMode:
    """The mode that a board is in. ``messages`` are the tool's own warnings and errors."""

    name: str | None = None
    id: int | None = None
    fan: str | None = None
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class PowerModeList:
    """The modes that a board has, id and name in the order listed, and the id that it boots into."""

    modes: tuple[tuple[int, str], ...] = ()
    default_id: int | None = None


@dataclass(frozen=True)
class ClockRange:
    """Lower and upper bound of a clock and where it stands: kHz for a core, Hz for GPU and memory."""

    minimum: int
    maximum: int
    current: int

    @property
    def locked(self) -> bool:
        """Whether the bounds leave the clock only one value."""
        return self.minimum == self.maximum


@dataclass(frozen=True)
class CpuClock:
    """One core; ``online`` is None where the tool does not say."""

    number: int
    governor: str
    khz: ClockRange
    online: bool | None = None


@dataclass(frozen=True)
class ClockState:
    """What ``jetson_clocks --show`` tells. ``online_cpus`` and ``fan`` are as printed."""

    soc_family: str | None = None
    machine: str | None = None
    online_cpus: str | None = None
    cpus: tuple[CpuClock, ...] = ()
    gpu_hz: ClockRange | None = None
    memory_hz: ClockRange | None = None
    memory_override: bool | None = None
    fan: str | None = None
    power_mode: str | None = None

    @property
    def locked(self) -> bool | None:
        """Whether every core that is online and the GPU stand at one clock; None when the text does not tell.

        The memory's bounds stay apart even when ``jetson_clocks`` holds it; see ``memory_override``.
        """
        ranges = [cpu.khz for cpu in self.cpus if cpu.online is not False]
        if not ranges or self.gpu_hz is None:
            return None
        return all(clock.locked for clock in [*ranges, self.gpu_hz])


def parse_power_mode(text: str) -> PowerMode:
    """The answer of ``nvpmodel -q``, with or without ``--verbose``: the id is the number below the mode's name."""
    name: str | None = None
    number: int | None = None
    fan: str | None = None
    messages = []
    below = False
    for line in _lines(text):
        if name is None and (match := _MODE.search(line)):
            name, below = match[1], True
            continue
        if below and number is None and re.fullmatch(_INT, line, re.ASCII):
            number = int(line)
        below = False
        if match := _FAN_MODE.search(line):
            fan = fan or match[1]
        elif _MESSAGE.match(line):
            messages.append(line)
    return PowerMode(name, number, fan, tuple(messages))


def parse_power_mode_list(text: str) -> PowerModeList:
    """The modes in an /etc/nvpmodel.conf or in what ``nvpmodel -p --verbose`` prints; the first of an id counts."""
    modes: dict[int, str] = {}
    default: int | None = None
    for line in _lines(text):
        if line.startswith("#"):
            continue
        if match := _MODEL.match(line):
            number, name = _MODEL_ID.search(match[1]), _MODEL_NAME.search(match[1])
            if number and name:
                modes.setdefault(int(number[1]), name[1])
        elif match := _DEFAULT.match(line):
            default = int(match[1])
    return PowerModeList(tuple(modes.items()), default)


def parse_clocks(text: str) -> ClockState:
    """The answer of ``jetson_clocks --show``; cores by their number, which the tool does not sort by."""
    found: dict[str, re.Match[str]] = {}
    cpus: dict[int, CpuClock] = {}
    patterns = {
        "soc": _SOC,
        "online": _ONLINE,
        "gpu": _GPU,
        "memory": _EMC,
        "fan": _FAN,
        "mode": _MODE,
    }
    for line in _lines(text):
        if match := _CPU.match(line):
            number = int(match["number"])
            online = None if match["online"] is None else match["online"] == "1"
            cpus.setdefault(number, CpuClock(number, match["governor"], _range(match), online))
            continue
        for name, pattern in patterns.items():
            if match := pattern.match(line):
                found.setdefault(name, match)
                break
    memory = found.get("memory")
    override = memory["override"] if memory else None
    return ClockState(
        soc_family=_text(found.get("soc"), 1),
        machine=_text(found.get("soc"), 2),
        online_cpus=_text(found.get("online"), 1),
        cpus=tuple(cpus[number] for number in sorted(cpus)),
        gpu_hz=_range(found["gpu"]) if "gpu" in found else None,
        memory_hz=_range(memory) if memory else None,
        memory_override=None if override is None else override == "1",
        fan=_text(found.get("fan"), 1),
        power_mode=_text(found.get("mode"), 1),
    )


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def _range(match: re.Match[str]) -> ClockRange:
    return ClockRange(*(int(match[part]) for part in ("minimum", "maximum", "current")))


def _text(match: re.Match[str] | None, group: int) -> str | None:
    return None if match is None else match[group] or None
