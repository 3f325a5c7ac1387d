"""What the agent can tell of its device beyond the processor: packages, disk, heat, and whether it is held back."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

from pocketformer.targets.agent.events import UnfitDeviceError
from pocketformer.targets.agent.interpreter import download_command, interpreter
from pocketformer.targets.loadgen import DISTRIBUTIONS as LOADGEN
from pocketformer.targets.probe import probe, probe_cpu, read_or_empty

# The distributions that may bring each package; vendors build their own onnxruntime.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "onnxruntime": (
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-openvino",
        "onnxruntime-qnn",
        "onnxruntime-directml",
    ),
    "tokenizers": ("tokenizers",),
}
CLOCK_TOLERANCE_S = 30.0  # connecting and starting Python on a slow board lie in it
_HOLDING_BACK = ("passive", "hot", "critical")  # trip points at which Linux slows down or stops
_SPARE_DISK = 16_000_000
_SPARE_MEMORY = 96_000_000  # interpreter, numpy, onnxruntime and tokenizers themselves
_GRAPH_IN_MEMORY = 3  # the file, its copy optimized by onnxruntime, activations


def describe(root: Path, folder: Path) -> dict[str, Any]:
    """``probe`` and what else decides whether a bundle can run here, in values that JSON can hold.

    ``board`` (text or None), ``python``, what ``installed`` tells, ``disk_free_bytes`` where ``folder`` is,
    ``clock_utc_s``, ``temperatures`` and ``throttling``.
    """
    return {
        **probe(root),
        "board": board_model(root),
        "python": platform.python_version(),
        **installed(),
        "disk_free_bytes": shutil.disk_usage(folder).free,
        "clock_utc_s": time.time(),
        "temperatures": temperatures(root),
        "throttling": throttling(root),
    }


def installed() -> dict[str, Any]:
    """``interpreter``, ``packages`` (version by name, None when missing) and ``loadgen`` (its version, or None)."""
    return {
        "interpreter": interpreter(),
        "packages": package_versions(),
        "loadgen": _version("mlperf_loadgen", LOADGEN),
    }


def board_model(root: Path) -> Optional[str]:
    """What the device tree or the firmware calls this machine."""
    for place in ("proc/device-tree/model", "sys/class/dmi/id/product_name"):
        text = read_or_empty(root / place).strip("\0 \n")
        if text:
            return text
    return None


def package_versions() -> dict[str, Optional[str]]:
    """The version of each package that the agent needs; "unknown" when it has none, None when missing."""
    return {name: _version(name, distributions) for name, distributions in PACKAGES.items()}


def _version(name: str, distributions: tuple[str, ...]) -> Optional[str]:
    if importlib.util.find_spec(name) is None:
        return None
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def require_packages(names: Iterable[str] = PACKAGES) -> None:
    """``UnfitDeviceError`` naming every package of ``names`` that is missing."""
    versions = package_versions()
    missing = [name for name in names if versions[name] is None]
    if missing:
        raise UnfitDeviceError(
            "missing-package",
            f"Python {platform.python_version()} there has no {' and no '.join(missing)}",
            hint=f"On the device: {Path(sys.executable or 'python3').name} -m pip install "
            f"{' '.join(missing)}; or name another Python with --python; or bring them with --wheels wheels, a folder "
            f"filled by: {download_command(interpreter(), missing)}",
        )


def require_disk(folder: Path, needed: int) -> None:
    """``UnfitDeviceError`` unless ``needed`` bytes and some to spare fit where ``folder`` is."""
    free = shutil.disk_usage(folder).free
    spare = min(_SPARE_DISK, needed // 4)
    if free < needed + spare:
        raise UnfitDeviceError(
            "no-space",
            f"{_megabytes(needed)} are needed there and {_megabytes(free)} are free",
            hint="Free some space on the device, or name a roomier place with --folder.",
        )


def require_memory(root: Path, graph_bytes: int) -> None:
    """``UnfitDeviceError`` when a graph of this size is sure not to fit into the memory that is free."""
    available = probe_cpu(root)["memory_available_bytes"]
    needed = _SPARE_MEMORY + _GRAPH_IN_MEMORY * graph_bytes
    if available is not None and available < needed:
        raise UnfitDeviceError(
            "low-memory",
            f"about {_megabytes(needed)} of memory are needed there and {_megabytes(available)} are free",
            hint="Stop other programs on the device, or choose a smaller model.",
        )


def clock_skew(host_time: float, now: float) -> Optional[str]:
    """What to say of a clock that is not the host's; None when the two agree as far as this can tell."""
    skew = now - host_time
    if abs(skew) <= CLOCK_TOLERANCE_S:
        return None
    side = "ahead of" if skew > 0 else "behind"
    return f"the device's clock is {abs(skew):.0f} s {side} the host's; times in its logs are off by that"


def temperatures(root: Path) -> list[dict[str, Any]]:
    """Every thermal zone that can be read: ``zone``, ``type``, ``celsius``."""
    found = []
    for zone in _zones(root):
        value = _integer(zone / "temp")
        if value is not None:
            kind = read_or_empty(zone / "type").strip()
            found.append({"zone": zone.name, "type": kind or "unknown", "celsius": value / 1000})
    return found


def throttling(root: Path) -> list[str]:
    """Signs that the processor is held back, one text each: a lowered frequency limit, a trip point reached."""
    signs = []
    cores = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"), key=lambda path: int(path.name[3:]))
    lowered: dict[tuple[int, int], list[str]] = {}
    for core in cores:
        limit = _integer(core / "cpufreq/scaling_max_freq")
        installed = _integer(core / "cpufreq/cpuinfo_max_freq")
        if limit is not None and installed is not None and limit < installed:
            lowered.setdefault((limit, installed), []).append(core.name)
    for (limit, installed), names in lowered.items():
        which = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        signs.append(f"{which}: limited to {limit // 1000} MHz of {installed // 1000} MHz")
    for zone in _zones(root):
        value = _integer(zone / "temp")
        for place in sorted(zone.glob("trip_point_*_temp")):
            trip = _integer(place)
            kind = read_or_empty(place.with_name(place.name[: -len("temp")] + "type")).strip()
            # Firmware writes 0 or less for a trip point that is not in use.
            if value is not None and trip is not None and 0 < trip <= value and kind in _HOLDING_BACK:
                where = read_or_empty(zone / "type").strip() or zone.name
                signs.append(
                    f"{where}: {value / 1000:g} degrees, at or above its {kind} point {trip / 1000:g}"
                )
    return signs


def _zones(root: Path) -> list[Path]:
    zones = (root / "sys/class/thermal").glob("thermal_zone[0-9]*")
    return sorted(zones, key=lambda path: int(path.name[len("thermal_zone") :]))


def _integer(path: Path) -> Optional[int]:
    try:
        return int(read_or_empty(path))
    except ValueError:
        return None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
