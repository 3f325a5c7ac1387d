"""What a table keeps between its calls: each thing that took long, made once for this code and this machine.

A thing is kept in ``out/PLACE/KEY/NAME`` and valid when its ``done.json`` is there, which is written last. ``KEY`` is
``Repository.code_key``: what other code or another machine made is never found. Rows measure what lies there anew; in
``done.json`` stands what cannot be seen from the files, such as how long they took.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evidence.table import EvidenceError
from evidence.workspace import Repository, child_environment, output_of, usable_cores

Make = Callable[[Path], dict[str, Any]]


class Kept:
    """What the rows of one table share in one call. A table's own class says its ``place`` and what it makes."""

    place: str

    def __init__(self, repository: Repository, *, say: Callable[[str], None] = lambda _: None) -> None:
        self.repository = repository
        self.folder = repository.root / "out" / self.place / repository.code_key()
        self.say = say
        self._made: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, str] = {}

    def once(self, name: str, make: Make) -> dict[str, Any]:
        """What ``make(folder)`` said of what it made in the empty ``self.folder / name``, now or in an earlier call.

        A failure is remembered within this call, so that no row tries again, and never kept.
        """
        if name in self._failed:
            raise EvidenceError(self._failed[name])
        if name not in self._made:
            try:
                self._made[name] = self._kept_or_made(name, make)
            except Exception as error:
                self._failed[name] = f"{name}: {error}"
                raise EvidenceError(self._failed[name]) from error
        return self._made[name]

    def has_made(self, name: str) -> bool:
        """Whether a row of this call has needed it, and got it."""
        return name in self._made

    def others(self) -> list[Path]:
        """Folders that other code or another machine made: never read, and free to delete."""
        return sorted(p for p in self.folder.parent.glob("*") if p.is_dir() and p != self.folder)

    def packages(self) -> dict[str, str]:
        """Versions in the environment that was measured."""
        raise NotImplementedError

    def output(self, argv: list[str]) -> str:
        """What a program prints, started in the evidence's folder with its caches."""
        return output_of(argv, environment=self.environment(), folder=self.folder)

    def environment(self) -> dict[str, str]:
        """What programs are started with: nothing of this process's own set-up, and caches of their own."""
        return child_environment(self.folder / "cache")

    def _kept_or_made(self, name: str, make: Make) -> dict[str, Any]:
        folder = self.folder / name
        details = read_done(folder)
        if details is not None:
            self.say(f"{name}: kept from {details['made']}, made by this very code ({self.folder.name})")
            return details
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        details = make(folder) | {"made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        (folder / "done.json").write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")
        return details


def read_done(folder: Path) -> dict[str, Any] | None:
    """What is known of a thing that was made whole; None when there is none."""
    try:
        details = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return details if isinstance(details, dict) and "made" in details else None


def environment_of(kept: Kept) -> dict[str, Any]:
    """The machine, and the versions that matter in the environment that was measured."""
    from pocketformer.targets.probe import probe_cpu

    probed = probe_cpu()
    memory = probed["memory_bytes"]
    return {
        "python": platform.python_version(),
        "system": probed["system"],
        "architecture": probed["architecture"],
        "cpu": probed["model"],
        "cores": usable_cores(),
        "cpu_flags": sorted(name for name, there in probed["flags"].items() if there),
        "memory_mb": None if memory is None else memory / 1e6,
        "packages": kept.packages(),
    }
