"""A virtual environment for each group of peers that install together, made from its pinned requirements.

Kept between runs, and made anew when the requirements or the interpreter changed. ``installed.txt`` beside it holds
every package that came along, with its version.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

from evidence.table import EvidenceError
from evidence.workspace import Repository, base_interpreter, child_environment, end_of, output_of, run_logged

from peers.setups import PROJECT

REQUIREMENTS = Path(__file__).parent / "requirements"
_PIP = ("-m", "pip", "--disable-pip-version-check")


class Environments:
    """The environments below ``folder``; ``root`` is the checkout, which the project's own environment runs."""

    def __init__(
        self, folder: Path, *, root: Path, say: Callable[[str], None], requirements: Path = REQUIREMENTS
    ) -> None:
        self._folder = folder
        self._root = root
        self._say = say
        self._requirements = requirements
        self._failed: dict[str, str] = {}

    def python(self, name: str) -> Path:
        """The interpreter of an environment, which is made first where it is missing.

        ``EvidenceError`` with pip's last words when it cannot be made; not tried twice in a run.
        """
        if name == PROJECT:
            return Path(sys.executable)
        if name in self._failed:
            raise EvidenceError(self._failed[name])
        try:
            return self._made(name)
        except EvidenceError as error:
            self._failed[name] = str(error)
            raise

    def variables(self, threads: int) -> dict[str, str]:
        """What peers' programs are started with: nothing of this process's own set-up, caches of their own."""
        return child_environment(self._folder / "cache") | {
            "PYTHONPATH": str(self._root),
            "OMP_NUM_THREADS": str(threads),
            "TORCHINDUCTOR_CACHE_DIR": str(self._folder / "cache" / "inductor"),
            "TRANSFORMERS_VERBOSITY": "error",
        }

    def key(self, name: str) -> str:
        """Changes whenever another environment would be made: requirements, or versions in the project's own."""
        if name == PROJECT:
            found = "\n".join(sorted(f"{item.name}=={item.version}" for item in distributions()))
        else:
            found = (self._requirements / f"{name}.txt").read_text(encoding="utf-8")
        return hashlib.sha256(f"{sys.version}\0{found}".encode()).hexdigest()[:16]

    def code_key(self, code: tuple[str, ...]) -> str:
        """A hash of these files and folders of the checkout; empty without any."""
        return Repository(root=self._root, code=code).code_key() if code else ""

    def _made(self, name: str) -> Path:
        folder, wanted = self._folder / name, self.key(name)
        python = folder / "venv" / "bin" / "python"
        marker, log = folder / "key.txt", folder / "log.txt"
        if marker.is_file() and marker.read_text(encoding="utf-8") == wanted and python.is_file():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._say(f"environment {name}: installing ({log})")
        requirements = self._requirements / f"{name}.txt"
        environment = child_environment(self._folder / "cache")
        for argv in (
            [base_interpreter(), "-m", "venv", str(folder / "venv")],
            [str(python), *_PIP, "install", "--quiet", "--no-compile", "-r", str(requirements)],
        ):
            code, _ = run_logged(argv, log=log, environment=environment, folder=folder)
            if code != 0:
                raise EvidenceError(f"environment {name} could not be installed: {end_of(log)}")
        frozen = output_of([str(python), *_PIP, "freeze"], environment=environment, folder=folder)
        (folder / "installed.txt").write_text(frozen, encoding="utf-8")
        marker.write_text(wanted, encoding="utf-8")
        return python
