"""Wheels out of what is installed: the files of a real wheel, packed again, so that no test has to download one."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path


def pack_wheel(site: Path, name: str, folder: Path) -> Path:
    """The distribution ``name`` of a site-packages folder as a wheel in ``folder``, without its tests and scripts."""
    (info,) = site.glob(f"{name}-*.dist-info")
    lines = (info / "WHEEL").read_text().splitlines()
    tags = [line.partition(": ")[2].split("-") for line in lines if line.startswith("Tag: ")]
    joined = "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))
    wheel = folder / f"{info.name.removesuffix('.dist-info')}-{joined}.whl"
    with (
        zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        (info / "RECORD").open(newline="") as record,
    ):
        for path, *_ in csv.reader(record):
            if not {"..", "__pycache__", "tests", "testing"} & set(path.split("/")) or path.endswith(
                "/RECORD"
            ):
                archive.write(site / path, path)
    return wheel


def write_wheel(path: Path, files: dict[str, str]) -> Path:
    """A wheel with these files, whatever they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path
