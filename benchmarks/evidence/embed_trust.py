"""Rows about trust: changed signed bundles, and bundles made to mislead, as every host's ``verify`` takes them.

The programs of the hosts are run as they are, a process for each bundle; Python checks the changed ones in this
process, by the same function that ``pocketformer verify`` calls.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evidence.hostile_bundles import HOSTILE, Watch, plant
from evidence.table import EvidenceError, Measured, Row
from evidence.tampering import another_bundle, mutations
from pocketformer.runtime.verify import verify

if TYPE_CHECKING:
    from evidence.embedding import EmbeddingRuns

HOSTS = ("python", "node", "c")
MUTATIONS = 500
REFUSED = 5
# Of one verify of a bundle of a few megabytes; a pipe or a device that is opened never ends.
_LIMIT_S = 120.0


def tampered(subject: EmbeddingRuns, host: str, count: int = MUTATIONS) -> Measured:
    """How many of ``count`` mutations of the signed bundle the host refuses."""
    code = _verify_with_key(subject, host)
    with tempfile.TemporaryDirectory(dir=subject.work) as folder:
        bundle = Path(folder) / "bundle"
        shutil.copytree(subject.signed, bundle)
        other = another_bundle(subject.signed, Path(folder) / "other", subject.private_key)
        for good in (bundle, other):
            if code(good) != 0:
                raise EvidenceError(f"{host} does not take the signed bundle as it is")
        refused: Counter[str] = Counter()
        taken = []
        for mutation in mutations(subject.signed, other, count):
            for name, content in mutation.files.items():
                (bundle / name).write_bytes(content)
            found = code(bundle)
            if found == REFUSED:
                refused[mutation.of] += 1
            else:
                taken.append(f"{mutation.kind} of the {mutation.of}: {found}")
            for name in mutation.files:
                shutil.copyfile(subject.signed / name, bundle / name)
    told = ", ".join(f"{number} of the {of}" for of, number in refused.items())
    return Measured(
        value=float(sum(refused.values())),
        how=f"refused: {told}; the signed bundle itself verifies"
        + "".join(f"; not: {text}" for text in taken[:5]),
    )


def hostile(subject: EmbeddingRuns, host: str) -> Measured:
    """How many bundles made to mislead the host does not refuse, or opens a file outside for."""
    program = subject.host(host)
    failures = []
    with tempfile.TemporaryDirectory(dir=subject.work) as folder:
        for case in HOSTILE:
            bundle, outside = plant(case, subject.bundle, Path(folder))
            watch = Watch(outside)
            try:
                found = _exit_code([*program, "verify", str(bundle)])
                opened = watch.opened()
            finally:
                watch.close()
            if found != REFUSED or opened:
                failures.append(
                    f"{case.name}: exit code {found}, opened outside: {', '.join(opened) or 'nothing'}"
                )
    return Measured(
        value=float(len(failures)),
        how=f"{len(HOSTILE)} bundles, opened files seen by inotify"
        + "".join(f"; {text}" for text in failures[:5]),
    )


def _verify_with_key(subject: EmbeddingRuns, host: str) -> Callable[[Path], int]:
    if host == "python":
        return lambda bundle: 0 if verify(bundle, key=subject.public_key).ok else REFUSED
    program = subject.host(host)
    return lambda bundle: _exit_code([*program, "verify", str(bundle), "--key", str(subject.public_key)])


def _exit_code(command: list[str]) -> int:
    try:
        return subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        return -1


def _tampered_row(host: str) -> Row[EmbeddingRuns]:
    return Row(
        id=f"tampered-{host}",
        what=f"{host}: changed signed bundles refused by verify (model, manifest, tokenizer, golden, signature)",
        comparator=">=",
        required=float(MUTATIONS),
        unit=f"of {MUTATIONS}",
        measure=lambda subject: tampered(subject, host),
    )


def _hostile_row(host: str) -> Row[EmbeddingRuns]:
    return Row(
        id=f"hostile-{host}",
        what=f"{host}: bundles made to mislead that verify takes, or opens a file outside for, of {len(HOSTILE)}",
        comparator="==",
        required=0.0,
        unit="bundles",
        measure=lambda subject: hostile(subject, host),
    )


ROWS = (*map(_tampered_row, HOSTS), *map(_hostile_row, HOSTS))
