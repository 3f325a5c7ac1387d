"""A peer's model in a process of its own, which computes only when it is asked to.

Every answer has a time limit, counted in time that this process itself was running: when the whole machine is
suspended, nobody is late.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from evidence.table import EvidenceError
from evidence.workspace import end_of

_LONGEST_SLICE_S = 1.0
_IDLE_FOR_S = 0.03
_SETTLE_LIMIT_S = 3.0


class Worker:
    """A running worker. ``argv`` starts it; ``log`` takes what it and its libraries say."""

    def __init__(
        self, name: str, argv: Sequence[str], *, variables: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        self.name = name
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env=dict(variables),
                start_new_session=True,
            )
        self._unread = b""
        self._watched = psutil.Process(self._process.pid)
        self._cpu_at_rest: tuple[float, float] | None = None
        self.idle_cpu_s = 0.0
        self.idle_s = 0.0

    def ask(self, order: Mapping[str, Any], *, limit_s: float) -> dict[str, Any]:
        """Its answer; ``EvidenceError`` when it reports an error, ends, or is silent for ``limit_s`` seconds."""
        self.tell(order)
        return self.answer(limit_s=limit_s)

    def tell(self, order: Mapping[str, Any]) -> None:
        """Give an order without waiting for the answer."""
        self._note_rest()
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(dict(order)).encode() + b"\n")
            pipe.flush()
        except (OSError, ValueError) as error:  # ValueError: it was stopped before
            raise EvidenceError(self._how_it_ended()) from error

    def answer(self, *, limit_s: float) -> dict[str, Any]:
        """Wait for the answer to an order that was given. Errors as ``ask``."""
        try:
            content = json.loads(self._line(limit_s))
        except ValueError as error:
            self.kill()
            raise EvidenceError(f"the worker answered no JSON: {error}") from error
        if not isinstance(content, dict) or "error" in content:
            raise EvidenceError(str(content["error"] if isinstance(content, dict) else content))
        return content

    def settle(self) -> None:
        """Wait until it uses no processor any more: threads that spin for a while must not disturb the next."""
        deadline = time.monotonic() + _SETTLE_LIMIT_S
        with contextlib.suppress(psutil.Error):
            used = self._cpu_s()
            while time.monotonic() < deadline:
                time.sleep(_IDLE_FOR_S)
                now = self._cpu_s()
                if now == used:
                    break
                used = now
            self._cpu_at_rest = (used, time.monotonic())

    def stop(self) -> None:
        """Let it end by itself; kill it when it does not."""
        with contextlib.suppress(EvidenceError, OSError, ValueError):
            self.tell({"do": "stop"})
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        self.kill()

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _note_rest(self) -> None:
        """Add up the processor time that it used while it had nothing to do."""
        if self._cpu_at_rest is None:
            return
        with contextlib.suppress(psutil.Error):
            used, since = self._cpu_at_rest
            self.idle_cpu_s += self._cpu_s() - used
            self.idle_s += time.monotonic() - since
        self._cpu_at_rest = None

    def _cpu_s(self) -> float:
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    def _line(self, limit_s: float) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None
        left = limit_s
        while b"\n" not in self._unread:
            start = time.monotonic()
            ready, _, _ = select.select([pipe], [], [], max(0.0, min(left, _LONGEST_SLICE_S)))
            left -= min(time.monotonic() - start, _LONGEST_SLICE_S)
            if ready:
                chunk = os.read(pipe.fileno(), 1 << 20)
                if not chunk:
                    raise EvidenceError(self._how_it_ended())
                self._unread += chunk
            elif left <= 0:
                self.kill()
                raise EvidenceError(f"no answer within {limit_s:.0f} s: killed")
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        code = self._process.poll()
        self.kill()
        ended = (
            f"was ended by signal {-code}"
            if code is not None and code < 0
            else f"ended with exit code {code}"
        )
        return f"the worker {ended}: {end_of(self._log)}"
