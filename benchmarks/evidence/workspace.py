"""This commit and its code key, clones of it, and child processes that inherit nothing of this one's set-up."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from evidence.table import EvidenceError

# What decides how a demo run ends: the package, what is installed, and the commands of `make demo`.
DEMO_CODE = ("pocketformer", "pyproject.toml", "Makefile")
# Written by the evidence itself: it must not make the next evidence dirty.
RESULTS = "benchmarks/results"

# An outer make, venv, interpreter set-up or thread limit would change what is measured.
_FOREIGN_PREFIXES = ("GIT_", "PYTHON", "MAKE", "POCKETFORMER_", "OMP_", "MKL_", "OPENBLAS_", "COVERAGE_")
_FOREIGN = ("VIRTUAL_ENV", "MFLAGS", "PIP_CACHE_DIR", "XDG_CACHE_HOME", "COLUMNS")
_TAIL_LINES = 8


@dataclass(frozen=True, kw_only=True)
class Repository:
    """The checkout whose claims are tested.

    ``code``: the files and folders that decide what is measured; ``versions``: of installed packages, where what is
    measured runs in this environment.
    """

    root: Path
    code: tuple[str, ...] = DEMO_CODE
    versions: tuple[str, ...] = ()

    def commit(self) -> str:
        """The commit that is checked out."""
        return self._git("rev-parse", "HEAD").strip()

    def dirty(self) -> bool:
        """Whether anything but the evidence's own results differs from the commit."""
        return bool(self._git("status", "--porcelain", "--", ".", f":(exclude){RESULTS}").strip())

    def code_key(self) -> str:
        """Names the code and the machine that runs belong to: 16 hex digits.

        A hash of the content of ``code`` as it lies in the working tree, of ``versions``, of this folder's path (a
        virtual environment cannot move), of the interpreter and of the processor and its usable cores.
        """
        digest = hashlib.sha256()
        for file in self._code_files():
            digest.update(f"{file.relative_to(self.root).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        machine = (
            str(self.root),
            sys.version,
            platform.machine(),
            _cpu_name(),
            str(usable_cores()),
            *self.versions,
        )
        digest.update("\0".join(machine).encode())
        return digest.hexdigest()[:16]

    def clone(self, to: Path) -> str:
        """Clone the commit into ``to``, lay changes of a dirty tree over it, and say in words what it is."""
        commit = self.commit()
        _git(self.root, "clone", "--quiet", "--no-hardlinks", str(self.root), str(to))
        _git(to, "checkout", "--quiet", "--detach", commit)
        changed = self._git("diff", "--name-only", "-z", "HEAD", "--", ".", f":(exclude){RESULTS}")
        added = self._git("ls-files", "--others", "--exclude-standard", "-z", "--", ".")
        names = sorted({name for name in (changed + added).split("\0") if name})
        for name in names:
            source, target = self.root / name, to / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
            else:
                target.unlink(missing_ok=True)
        changes = f" with {len(names)} changed files of the working tree" if names else ""
        return f"a git clone of {commit[:10]}{changes}"

    def _code_files(self) -> list[Path]:
        found: list[Path] = []
        for name in self.code:
            place = self.root / name
            inside = place.rglob("*") if place.is_dir() else [place]
            found += [
                file
                for file in inside
                if file.is_file()
                and "__pycache__" not in file.parts
                and file.suffix != ".pyc"
                and not file.is_relative_to(self.root / RESULTS)
            ]
        return sorted(found)

    def _git(self, *arguments: str) -> str:
        return _git(self.root, *arguments)


def child_environment(cache: Path) -> dict[str, str]:
    """This process's environment without what belongs to its own tools, with ``cache`` for all caches."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN_PREFIXES) and name not in _FOREIGN
    }
    # As the Makefile sets them for `make demo`, for the runs that are started without make.
    return kept | {"XDG_CACHE_HOME": str(cache), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def base_interpreter() -> str:
    """The interpreter that this environment was made from: a venv made by a venv's python is not empty."""
    path = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(path) if path.is_file() else "python3"


def run_logged(
    argv: Sequence[str], *, log: Path, environment: Mapping[str, str], folder: Path, limit_s: float = 3600.0
) -> tuple[int, float]:
    """Run a program with its output in ``log``: exit code and wall-clock seconds.

    ``EvidenceError`` after ``limit_s`` seconds; whatever ends the wait ends the program too.
    """
    start = perf_counter()
    with started(argv, log=log, environment=environment, folder=folder) as process:
        try:
            code = process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise EvidenceError(f"{_shown(argv)} did not end within {limit_s:.0f} s; see {log}") from error
    return code, perf_counter() - start


@contextlib.contextmanager
def started(
    argv: Sequence[str], *, log: Path, environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, which is killed when the block ends and it still runs."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(argv),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a program of ``started`` and its children, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def output_of(
    argv: Sequence[str], *, environment: Mapping[str, str], folder: Path, limit_s: float = 600.0
) -> str:
    """What a short program prints; ``EvidenceError`` with the end of its stderr when it fails."""
    try:
        done = subprocess.run(
            list(argv),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EvidenceError(f"{_shown(argv)} did not end within {limit_s:.0f} s") from error
    if done.returncode != 0:
        raise EvidenceError(f"{_shown(argv)} ended with exit code {done.returncode}: {_tail(done.stderr)}")
    return done.stdout


def end_of(log: Path) -> str:
    """The last lines of a log, for an error."""
    return _tail(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else "no log"


def usable_cores() -> int:
    """Cores that this process, and so its children, may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_cores(count: int) -> None:
    """Use at most ``count`` cores from here on, children included: what is claimed is claimed for two."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:count]))


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return output_of(["git", *arguments], environment=environment, folder=folder)


def _shown(argv: Sequence[str]) -> str:
    return " ".join([Path(argv[0]).name, *argv[1:4]])


def _tail(text: str) -> str:
    return " | ".join(line.strip() for line in text.strip().splitlines()[-_TAIL_LINES:] if line.strip())
