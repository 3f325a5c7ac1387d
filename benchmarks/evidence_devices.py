"""``make evidence-devices``: measure what the project claims for devices, and fail when a claim does not hold.

    python benchmarks/evidence_devices.py [--rows id,id] [--fresh]

Prints the table with its measured column, writes ``benchmarks/results/devices.json`` with the rows that ran, and
ends with 1 when a row is not met or could not be measured (2: unknown row). What takes long is kept in
``out/evidence-devices/KEY`` and taken again only while ``KEY`` stays the same: a hash of the code (``DEVICE_CODE``) as
it lies in the working tree, of the installed versions and of the machine. No result file of an earlier call is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from evidence import device_rows, engine_rows
from evidence.command import ROOT, Evidence, Say, run_as_program, run_table
from evidence.devices import DEVICE_CODE, DeviceRuns, installed_versions
from evidence.table import Row
from evidence.workspace import Repository

# A module of rows, each measured from a DeviceRuns, adds its own here.
ROWS: tuple[Row[DeviceRuns], ...] = (*engine_rows.ROWS, *device_rows.ROWS)


def device_runs(say: Say) -> DeviceRuns:
    versions = tuple(f"{name}=={version}" for name, version in installed_versions().items())
    return DeviceRuns(Repository(root=ROOT, code=DEVICE_CODE, versions=versions), say=say)


TABLE = Evidence(
    name="evidence_devices",
    description=(__doc__ or "").split("\n", 1)[0],
    file="devices.json",
    rows=ROWS,
    kept=device_runs,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table; the exit code."""
    return run_table(TABLE, argv)


if __name__ == "__main__":
    run_as_program(main)
