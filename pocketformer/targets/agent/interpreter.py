"""What decides which wheels a Python takes: its version and ABI, the machine it was built for, the C library."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

# A system's name for 64-bit processors, and what a 32-bit Python on them is built for.
_NARROW = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}
# glibc's minor versions that wheels are commonly built for; PEP 600.
_COMMON_GLIBC = (34, 28, 27, 17)


def interpreter() -> dict[str, Any]:
    """This Python, in values that JSON can hold.

    ``implementation`` ("cp" for CPython), ``version`` ([major, minor]), ``abi`` ("cp311", "cp313t"), ``machine``,
    ``libc`` ("glibc", "musl" or None: neither) and ``libc_version`` ([major, minor] or None).
    """
    libc, version = _c_library()
    return {
        "implementation": {"cpython": "cp", "pypy": "pp"}.get(
            sys.implementation.name, sys.implementation.name
        ),
        "version": list(sys.version_info[:2]),
        "abi": f"cp{sys.version_info[0]}{sys.version_info[1]}{getattr(sys, 'abiflags', '')}",
        "machine": _machine(platform.machine(), struct.calcsize("P")),
        "libc": libc,
        "libc_version": version,
    }


def download_command(python: Mapping[str, Any], packages: Iterable[str]) -> str:
    """What fills a folder with wheels for that Python, on any machine with pip; ``python`` as ``interpreter``."""
    platforms = [f"linux_{python['machine']}"]
    version = python["libc_version"]
    if python["libc"] == "glibc" and version:
        platforms = [
            f"manylinux_2_{minor}_{python['machine']}" for minor in _COMMON_GLIBC if [2, minor] <= version
        ]
    elif python["libc"] == "musl" and version:
        platforms = [f"musllinux_1_{minor}_{python['machine']}" for minor in range(version[1], 0, -1)]
    words = [
        "pip download --only-binary :all: --no-deps",
        f"--python-version {'.'.join(map(str, python['version']))}",
    ]
    words += [f"--platform {name}" for name in platforms]
    return " ".join([*words, "-d wheels", *packages])


def _machine(name: str, pointer_bytes: int) -> str:
    return name if pointer_bytes == 8 else _NARROW.get(name, name)


def _c_library() -> tuple[Optional[str], Optional[list[int]]]:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):  # not Unix, or a C library that does not know the name
        name, version = "", ""
    if name == "glibc":
        return "glibc", _numbers(version)
    loader = next(Path("/lib").glob("ld-musl-*.so.1"), None)
    return (None, None) if loader is None else ("musl", _musl_version(loader))


def _musl_version(loader: Path) -> Optional[list[int]]:
    """musl tells its version when its loader is called with nothing to load."""
    try:
        done = subprocess.run(
            [str(loader)], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    for line in done.stderr.decode("ascii", "replace").splitlines():
        if line.startswith("Version "):
            return _numbers(line[len("Version ") :])
    return None


def _numbers(version: str) -> Optional[list[int]]:
    parts = version.strip().split(".")[:2]
    return [int(part) for part in parts] if len(parts) == 2 and all(p.isdecimal() for p in parts) else None
