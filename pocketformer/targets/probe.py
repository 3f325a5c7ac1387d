"""What this machine is: processor, instruction sets that matter for int8, cores, memory.

Linux tells most of it in /proc and /sys. Elsewhere, or where a file is missing, the figure is None or False
rather than a guess. The parsers take text, so that they are tested on the files of other machines.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from pocketformer.targets.saturation import u8s8_saturates

FLAGS: Mapping[str, frozenset[str]] = {
    # Ours: any of the names that Linux gives it, x86 `flags` and aarch64 `Features`.
    "avx2": frozenset({"avx2"}),
    "avx512": frozenset({"avx512f"}),
    "vnni": frozenset({"avx512_vnni", "avx_vnni"}),
    "amx": frozenset({"amx_int8"}),
    "dotprod": frozenset({"asimddp"}),
    "i8mm": frozenset({"i8mm"}),
}


def probe(root: Path = Path("/")) -> dict[str, Any]:
    """``probe_cpu``, and what onnxruntime has to run for: ``u8s8_saturates`` (see there; None without it)."""
    return {**probe_cpu(root), "u8s8_saturates": u8s8_saturates()}


def probe_cpu(root: Path = Path("/")) -> dict[str, Any]:
    """A description of this machine that JSON can hold, from files alone.

    ``model``, ``architecture``, ``system``; ``emulator`` (see ``emulator``); ``cores_installed`` and
    ``cores_available`` (by affinity); ``cpu_limit`` (cores' worth of time that the container may use, None without
    a limit); ``threads`` (what a run can use: the smaller of the two, at least 1); ``flags`` (see ``FLAGS``);
    ``memory_bytes`` (installed, or the container's limit where that is less) and ``memory_available_bytes``.
    ``root`` is where /proc and /sys are looked for.
    """
    cpuinfo = parse_cpuinfo(read_or_empty(root / "proc/cpuinfo"))
    flags = {name: bool(spellings & cpuinfo["flags"]) for name, spellings in FLAGS.items()}
    available = _cores_available()
    limit = _cpu_limit(root)
    memory = parse_meminfo(read_or_empty(root / "proc/meminfo"))
    installed = memory.get("MemTotal") or _memory_installed()
    memory_limits = [value for value in (installed, _memory_limit(root)) if value is not None]
    board = read_or_empty(root / "proc/device-tree/model").strip("\0 \n")
    return {
        "model": cpuinfo["model"] or board or platform.processor() or "unknown",
        "architecture": machine_architecture(),
        "system": platform.system(),
        "emulator": emulator(root),
        "cores_installed": os.cpu_count() or 1,
        "cores_available": available,
        "cpu_limit": limit,
        "threads": available if limit is None else max(1, min(available, math.ceil(limit))),
        "flags": flags,
        "memory_bytes": min(memory_limits, default=None),
        "memory_available_bytes": memory.get("MemAvailable"),
    }


def machine_architecture() -> str:
    """Of this machine's processor, by the one name of the several that profiles use."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())


def emulator(root: Path = Path("/")) -> Optional[str]:
    """The program that translates this process's instructions, such as "qemu-aarch64-static"; None: none was noticed.

    What runs under it has no speed worth telling. qemu's user mode shows a process its own program in /proc/self and
    leaves /proc/thread-self to Linux, which names the translator; natively both are the same. A whole machine that
    is emulated cannot be told from a virtual one this way.
    """
    try:
        shown, real = ((root / "proc" / name / "exe").readlink() for name in ("self", "thread-self"))
    except OSError:
        return None
    return None if shown == real else real.name


def parse_cpuinfo(text: str) -> dict[str, Any]:
    """``model`` (str, empty when not told) and ``flags`` (set of str) of a /proc/cpuinfo.

    Only flags that every core has count: a thread may run on any of them.
    """
    model = ""
    flags: set[str] | None = None
    parts: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("flags", "Features"):
            flags = set(value.split()) if flags is None else flags & set(value.split())
        elif key == "model name" and not model:
            model = value
        elif key in ("CPU implementer", "CPU part"):
            parts.setdefault(key, value)
    if not model and len(parts) == 2:
        model = f"ARM implementer {parts['CPU implementer']} part {parts['CPU part']}"
    return {"model": model, "flags": flags or set()}


def parse_meminfo(text: str) -> dict[str, int]:
    """The lines of a /proc/meminfo that are in kB, in bytes."""
    values = {}
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[0].isdecimal() and words[1] == "kB":
            values[key] = int(words[0]) * 1024
    return values


def cgroup_folders(root: Path, controller: str, membership: str) -> list[Path]:
    """The folders of /sys/fs/cgroup whose limits hold here, the innermost first.

    ``membership`` is the text of /proc/self/cgroup. Version 1 keeps a tree for each controller, version 2
    one for all; a container often sees its own folder as the top of the tree.
    """
    folders: list[Path] = []
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup"
        if controllers:
            top = top / controller
        names = [name for name in path.split("/") if name not in ("", "..")]
        folders += [top.joinpath(*names[:depth]) for depth in range(len(names), -1, -1)]
    return folders


def _cpu_limit(root: Path) -> float | None:
    limits = []
    for folder in cgroup_folders(root, "cpu", read_or_empty(root / "proc/self/cgroup")):
        words = read_or_empty(folder / "cpu.max").split()
        if not words:
            words = [read_or_empty(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]) > 0:
            limits.append(int(words[0]) / int(words[1]))
    return _smallest(limit for limit in limits if limit > 0)


def _memory_limit(root: Path) -> int | None:
    limits = []
    for folder in cgroup_folders(root, "memory", read_or_empty(root / "proc/self/cgroup")):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read_or_empty(folder / name).strip()
            if text.isdecimal() and int(text) > 0:
                limits.append(int(text))
    value = _smallest(limits)
    return None if value is None else int(value)


def _smallest(values: Iterable[float]) -> float | None:
    return min(values, default=None)


def _cores_available() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_installed() -> int | None:
    try:
        return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None


def read_or_empty(path: Path) -> str:
    """The text of a file of the system; empty where there is none or it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
