"""Runs in the environment under test: ``python install_size.py PACKAGE...`` prints as JSON what is installed weighs.

``bytes``: of all files in site-packages, but those of the packages named with all that they require, and of pip and
setuptools; ``packages``: of each that counts; ``not_counted``: of each that does not. Byte code beside a package's
modules is the package's; ``bytecode`` says how much of ``bytes`` it is.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What `python -m venv` puts there.
TOOLS = ("pip", "setuptools", "wheel")


def weigh(folder: Path, named: list[str]) -> dict[str, object]:
    """Sizes in bytes of what lies in ``folder``; a file that no package owns counts as well, under its first folder."""
    owners: dict[Path, str] = {}
    requires: dict[str, list[str]] = {}
    for distribution in distributions(path=[str(folder)]):
        name = canonicalize_name(distribution.metadata["Name"])
        requires[name] = distribution.requires or []
        for file in distribution.files or ():
            owners[folder / file] = name
    packages: dict[str, int] = {}
    bytecode: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            owner = owners.get(path) or owners.get(_source(path)) or path.relative_to(folder).parts[0]
            packages[owner] = packages.get(owner, 0) + path.stat().st_size
            if path.suffix == ".pyc":
                bytecode[owner] = bytecode.get(owner, 0) + path.stat().st_size
    left_out = _with_requirements(named, requires)
    counted = {name: size for name, size in packages.items() if name not in (*left_out, *TOOLS)}
    return {
        "bytes": sum(counted.values()),
        "bytecode": sum(size for name, size in bytecode.items() if name in counted),
        "packages": counted,
        "not_counted": {name: packages[name] for name in sorted(left_out) if name in packages},
    }


def _with_requirements(named: list[str], requires: dict[str, list[str]]) -> set[str]:
    """These packages, and what they require here without an extra."""
    found: set[str] = set()
    left = list(named)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            needs = map(Requirement, requires.get(name, []))
            left += [
                canonicalize_name(need.name)
                for need in needs
                if need.marker is None or need.marker.evaluate({"extra": ""})
            ]
    return found


def _source(path: Path) -> Path:
    """The module whose byte code a file in ``__pycache__`` is."""
    return path.parent.parent / f"{path.name.partition('.')[0]}.py"


if __name__ == "__main__":
    print(json.dumps(weigh(Path(sysconfig.get_paths()["purelib"]), sys.argv[1:])))
