"""One measurement at a time on a machine, and no other work meanwhile, among the processes that keep to this lock.

Two locks of the operating system on files in its folder for temporary files, which die with their process. Who works
holds ``turn`` together with others; who times holds it alone. Who waits to time holds ``queue``, at which all that
begin to work have to pass, so that a measurement does not wait for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


class MachineLock:
    """This process's hold on the machine. ``folder`` None: the one that all processes of a user share."""

    def __init__(self, folder: Path | None = None) -> None:
        place = Path(tempfile.gettempdir()) if folder is None else folder
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._queue, self._turn = (
            os.open(place / f"pocketformer-{os.getuid()}.{name}", flags, 0o600) for name in ("queue", "turn")
        )
        self._works = False

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Work beside others, when nobody times; call ``give_way`` now and then."""
        self._begin()
        try:
            yield
        finally:
            self._works = False
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def give_way(self) -> None:
        """Pause the work while somebody times or waits to."""
        if not self._works:
            return
        try:
            fcntl.flock(self._queue, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            self._begin()
        else:
            fcntl.flock(self._queue, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def timing(self) -> Iterator[None]:
        """Be alone; also inside ``working``."""
        worked = self._works
        fcntl.flock(self._turn, fcntl.LOCK_UN)
        fcntl.flock(self._queue, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            fcntl.flock(self._queue, fcntl.LOCK_UN)
            if worked:
                self._begin()

    def _begin(self) -> None:
        fcntl.flock(self._queue, fcntl.LOCK_SH)
        fcntl.flock(self._turn, fcntl.LOCK_SH)
        fcntl.flock(self._queue, fcntl.LOCK_UN)
        self._works = True
