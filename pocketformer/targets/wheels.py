"""Which wheels of a folder serve a device: those whose tags fit its Python, the newest of each package.

Tags as PEP 425 has them, C libraries as PEP 600 (manylinux) and PEP 656 (musllinux) do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from pocketformer.runtime.errors import InputError

# Names from before PEP 600, by glibc's minor version.
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def check_folder(folder: Path) -> None:
    """``InputError`` unless there are wheels in ``folder``."""
    if not folder.is_dir() or not any(folder.glob("*.whl")):
        raise InputError(
            f"there are no wheels in {folder}",
            hint="Fill it with pip download --only-binary :all:; docs/targets.md shows how.",
        )


def choose_wheels(
    names: Iterable[str], packages: Mapping[str, Sequence[str]], python: Mapping[str, Any]
) -> dict[str, str | None]:
    """For each package the file name, among ``names``, of the newest wheel that fits ``python``; None: none does.

    ``packages`` are the distributions that may bring each package, the preferred one first: it wins among wheels of
    one version. ``python`` is the ``interpreter`` of the agent. What is not named as a wheel serves nothing.
    """
    fitting = {tag: rank for rank, tag in enumerate(supported_tags(python))}
    best: dict[str, tuple[Any, str]] = {}
    for name in names:
        try:
            distribution, version, build, tags = parse_wheel_filename(name)
        except InvalidWheelFilename:
            continue
        ranks = [fitting[tag] for tag in tags if tag in fitting]
        for package, distributions in packages.items():
            known = [canonicalize_name(d) for d in distributions]
            if ranks and distribution in known:
                key = (version, -known.index(distribution), build, -min(ranks))
                if package not in best or key > best[package][0]:
                    best[package] = (key, name)
    return {package: best[package][1] if package in best else None for package in packages}


def supported_tags(python: Mapping[str, Any]) -> Iterator[Tag]:
    """The tags of wheels that this Python takes, the most specific first."""
    major, minor = python["version"]
    platforms = list(_platforms(python))
    named = f"{python['implementation']}{major}{minor}"
    if python["implementation"] == "cp":
        yield from cpython_tags((major, minor), [python["abi"]], platforms)
    yield from compatible_tags((major, minor), named, platforms)


def _platforms(python: Mapping[str, Any]) -> Iterator[str]:
    machine, version = python["machine"], python["libc_version"]
    if python["libc"] == "glibc" and version and version[0] == 2:
        for minor in range(version[1], 4, -1):
            yield f"manylinux_2_{minor}_{machine}"
            if minor in _OLD_NAMES:
                yield f"{_OLD_NAMES[minor]}_{machine}"
    elif python["libc"] == "musl" and version and version[0] == 1:
        for minor in range(version[1], -1, -1):
            yield f"musllinux_1_{minor}_{machine}"
    yield f"linux_{machine}"
