"""The run directory: what a run writes, where, and how it survives being killed.

A stage is written to a temporary folder and renamed, so it exists whole or not at all. The directory is locked
while a run works in it; the lock dies with the process, also under ``kill -9``. Nothing that the run did not make
is ever deleted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pocketformer.runtime.errors import NoSpaceError, RunDirectoryError, RunInUseError

_OWN = (
    "run.json",
    "recipe.yaml",
    "stages",
    "search",
    "bundles",
    "report.json",
    "report.html",
    "report.md",
    "MODEL_CARD.md",
)
_LOG = "log.txt"
_LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The last two are what torch and onnx say when a write falls short.
_FULL_IN_WORDS = (*map(os.strerror, _FULL), "iostream error", "file write failed")
_REFUSED = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR)
# A step that fails while less than this is free, in bytes, failed for want of space.
_ALMOST_NOTHING = 65_536


class RunDirectory:
    """One run's directory, locked from ``open`` to ``close``."""

    def __init__(self, path: Path, lock: int, *, made: tuple[Path, ...] = ()) -> None:
        self.path = path
        self._lock = lock
        # Directories that this run made, innermost first.
        self._made = made

    @classmethod
    def open(cls, path: Path, *, recipe_id: str, force: bool) -> RunDirectory:
        """Make or reopen the directory for the recipe with this fingerprint.

        An empty or new directory is taken; one with a run of the same recipe is continued; anything else is
        refused without ``force``. ``RunDirectoryError`` otherwise, ``RunInUseError`` while another run holds the lock.
        """
        if path.exists() and not path.is_dir():
            raise RunDirectoryError(f"{path} is a file, not a directory", hint="Choose another -o.")
        if (path / _LOCK).is_file():
            os.close(_take_lock(path, mark=False))
        existing = read_run(path) if path.is_dir() else None
        foreign = _foreign(path) if path.is_dir() else []
        if existing is None and foreign and not force:
            raise RunDirectoryError(
                f"{path} is not empty (it holds {', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''})",
                hint="Choose another -o, or pass --force: files that Pocketformer did not make stay as they are.",
            )
        if existing is not None and existing.get("recipe_id") != recipe_id and not force:
            raise RunDirectoryError(
                f"{path} holds a run with other settings",
                hint="Choose another -o, or pass --force to replace that run (stages that still fit are reused).",
            )
        made = tuple(folder for folder in (path, *path.absolute().parents) if not folder.exists())
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            lock = _take_lock(path)
            (path / "stages").mkdir(exist_ok=True)
        return cls(path, lock, made=made)

    def close(self) -> None:
        """Release the lock."""
        if self._lock >= 0:
            (self.path / _LOCK).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def discard_if_new(self) -> None:
        """Delete what this run wrote when it made the directory itself and nothing in it has ended.

        What has ended, and would cost as long again, is a stage, or a model of a search.
        """
        ended = (p.name for place in ("stages", "search") for p in (self.path / place).glob("*"))
        if not self._made or any(not name.startswith(".") for name in ended):
            return
        for entry in owned_entries(self.path):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        (self.path / _LOCK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    @property
    def log_path(self) -> Path:
        """Where the run's log goes."""
        return self.path / _LOG

    def stage_path(self, index: int, name: str) -> Path:
        """The folder of the finished stage number ``index``, counted from 1."""
        return self.path / "stages" / f"{index:02d}-{name}"

    def finished_stage(self, index: int, name: str, key: str) -> dict[str, Any] | None:
        """The record of this stage when it exists whole and with this key."""
        try:
            record = json.loads((self.stage_path(index, name) / "stage.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("key") == key else None

    @contextlib.contextmanager
    def writing_stage(self, index: int, name: str) -> Iterator[Path]:
        """A temporary folder that becomes the stage's folder when the block ends without an error."""
        final = self.stage_path(index, name)
        temporary = final.with_name(f".{final.name}.tmp")
        try:
            # Inside, because a disk is no longer full when the temporary folder has gone.
            with disk_errors(self.path):
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
                yield temporary
                shutil.rmtree(temporary / "work", ignore_errors=True)
                old = final.with_name(f".{final.name}.old")
                if final.exists():
                    final.rename(old)
                temporary.rename(final)
                shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def drop_stages_after(self, count: int) -> None:
        """Delete stages numbered above ``count`` and leftovers of a killed run; only folders a run makes."""
        for path in (self.path / "stages").iterdir():
            number = path.name.lstrip(".").split("-", 1)[0]
            if path.name.startswith(".") or (number.isdigit() and int(number) > count):
                shutil.rmtree(path, ignore_errors=True)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file of the run whole or not at all."""
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run whole or not at all."""
        target = self.path / name
        temporary = target.with_name(f".{target.name}.tmp")
        with disk_errors(self.path):
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)


def read_run(path: Path) -> dict[str, Any] | None:
    """``run.json`` of a run directory, or None when ``path`` is not one."""
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "recipe_id" in record else None


def origin_of(model: Path) -> Path:
    """The model that a chain of runs began with: ``model`` itself unless it is a run directory.

    Its name and its licence are those of all that was made from it.
    """
    seen: set[Path] = set()
    while model not in seen and (record := read_run(model)) is not None:
        seen.add(model)
        model = Path(str(record.get("model", model)))
    return model


def owned_entries(path: Path) -> list[Path]:
    """What a run made in ``path``: the only things that may be deleted."""
    return [path / name for name in (*_OWN, _LOG) if (path / name).exists()]


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says so."""
    try:
        yield
    except NoSpaceError:
        raise
    except Exception as error:
        if _is_full(error, path):
            raise NoSpaceError(
                f"no space left on the disk that holds {path}",
                hint="Free some space and run the same command again.",
            ) from error
        if (
            isinstance(error, OSError)
            and error.errno in _REFUSED
            and str(error.filename or path).startswith(str(path))
        ):
            raise RunDirectoryError(
                f"{path} cannot be written: {error.strerror}", hint="Choose another -o, or mend its rights."
            ) from error
        raise


def _is_full(error: BaseException, path: Path) -> bool:
    """Whether a full disk is behind ``error``: writers in other languages wrap or reword the system's error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if any(words in str(cause) for words in _FULL_IN_WORDS):
            return True
        cause = cause.__cause__ or cause.__context__
    with contextlib.suppress(OSError):
        return shutil.disk_usage(path).free < _ALMOST_NOTHING
    return False


def _foreign(path: Path) -> list[str]:
    """Names that no run made: a run that was killed at once leaves a lock, a log and no stages."""
    return sorted(
        entry.name
        for entry in path.iterdir()
        if entry.name not in (_LOCK, _LOG)
        and not (entry.name == "stages" and entry.is_dir() and not any(entry.iterdir()))
    )


def _take_lock(path: Path, *, mark: bool = True) -> int:
    descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(descriptor, 500).decode("utf-8", "replace").strip() or "another process"
        os.close(descriptor)
        raise RunInUseError(
            f"{path} is in use by {owner}", hint="Wait for it, stop it, or choose another -o."
        ) from error
    if not _is_file_of(descriptor, path / _LOCK):
        # Its owner ended, and took the file with it, between the two calls above: who comes next makes a new one.
        os.close(descriptor)
        return _take_lock(path, mark=mark)
    if not mark:
        return descriptor
    os.ftruncate(descriptor, 0)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {started}\n".encode())
    return descriptor


def _is_file_of(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def require_run(path: Path) -> dict[str, Any]:
    """``run.json`` of a run directory; ``RunDirectoryError`` when ``path`` is not one."""
    record = read_run(path)
    if record is None:
        raise RunDirectoryError(f"{path} is not a run directory", hint="A run directory holds a run.json.")
    return record


def clean(path: Path) -> None:
    """Delete what a run made in ``path``, and the directory when nothing else is in it."""
    require_run(path)
    os.close(_take_lock(path))
    for entry in owned_entries(path):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (path / _LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.rmdir()
