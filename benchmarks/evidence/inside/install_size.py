"""Runs in the environment under test: ``python install_size.py PACKAGE...`` prints as JSON what is installed weighs.

``bytes``: of all files in site-packages, but those of the packages named, and of pip and setuptools; ``packages``: of
each that counts; ``not_counted``: of each that was named. Byte code beside a package's modules is the package's.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

# What `python -m venv` puts there.
TOOLS = ("pip", "setuptools", "wheel")


def weigh(folder: Path, named: list[str]) -> dict[str, object]:
    """Sizes in bytes of what lies in ``folder``; a file that no package owns counts as well, under its first folder."""
    owners: dict[Path, str] = {}
    for distribution in distributions(path=[str(folder)]):
        for file in distribution.files or ():
            owners[folder / file] = distribution.metadata["Name"].lower()
    packages: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            owner = owners.get(path) or owners.get(_source(path)) or path.relative_to(folder).parts[0]
            packages[owner] = packages.get(owner, 0) + path.stat().st_size
    counted = {name: size for name, size in packages.items() if name not in (*named, *TOOLS)}
    return {
        "bytes": sum(counted.values()),
        "packages": counted,
        "not_counted": {name: packages[name] for name in named if name in packages},
    }


def _source(path: Path) -> Path:
    """The module whose byte code a file in ``__pycache__`` is."""
    return path.parent.parent / f"{path.name.partition('.')[0]}.py"


if __name__ == "__main__":
    print(json.dumps(weigh(Path(sysconfig.get_paths()["purelib"]), sys.argv[1:])))
