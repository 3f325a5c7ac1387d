"""Packs the agent on the host: the runtime, what it needs of targets, and its own files, in one zip file.

The same sources give the same bytes: entries are sorted, their times fixed, and nothing is compressed, because
every version of zlib compresses a little differently.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]
_TARGETS = (
    "__init__.py",
    "loadgen.py",
    "measure.py",
    "power_modes.py",
    "probe.py",
    "query_loop.py",
    "saturation.py",
    "scenarios.py",
    "tegrastats.py",
    "workloads.py",
)
_HOST_ONLY = ("build.py",)
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can hold


def agent_sources() -> dict[str, Path]:
    """Every file of the agent by its name in the archive, sorted."""
    targets = _PACKAGE / "targets"
    files = [
        _PACKAGE / "__init__.py",
        *(_PACKAGE / "runtime").rglob("*.py"),
        *(targets / name for name in _TARGETS),
        *(path for path in (targets / "agent").glob("*.py") if path.name not in _HOST_ONLY),
    ]
    named = {f"pocketformer/{path.relative_to(_PACKAGE).as_posix()}": path for path in files}
    named["__main__.py"] = targets / "agent" / "start.py"
    return dict(sorted(named.items()))


def build_agent(path: Path) -> Path:
    """Write the agent to ``path`` and return it; run it as ``python PATH COMMAND ...``."""
    partial = path.with_name(path.name + ".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, source in agent_sources().items():
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = 0o644 << 16
            # A checkout on Windows may have other line ends.
            archive.writestr(entry, source.read_bytes().replace(b"\r\n", b"\n"))
    partial.replace(path)
    return path
