"""The device's own account of its power: the mode and clocks that it is in, and samples while it works.

Only Jetson boards are known to tell: ``tegrastats``, ``nvpmodel -q`` and ``jetson_clocks --show`` are asked where they
are installed, and nothing is changed here. A tool that is missing, refuses or hangs leaves its part empty.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Optional

from pocketformer.targets.power_modes import parse_clocks, parse_power_mode
from pocketformer.targets.tegrastats import (
    TegrastatsSample,
    energy_j,
    input_rail,
    parse_tegrastats,
    total_power_mw,
)

INTERVAL_MS = 100
_IDLE_S = 1.0
_FEWEST = 5
# The PATH of a command over SSH often lacks where administrators' tools lie.
_PLACES = os.pathsep.join(("/usr/sbin", "/usr/bin", "/sbin", "/bin"))
_PATIENCE_S = 10


def state() -> Optional[dict[str, Any]]:
    """``mode`` (name or None), ``clocks_locked`` (None: not told, often for want of rights); None on other devices."""
    if find_tool("nvpmodel") is None and find_tool("jetson_clocks") is None:
        return None
    clocks = parse_clocks(_answer("jetson_clocks", "--show"))
    return {
        "mode": parse_power_mode(_answer("nvpmodel", "-q")).name or clocks.power_mode,
        "clocks_locked": clocks.locked,
    }


def tells() -> bool:
    """Whether a tool is installed here that tells power."""
    return find_tool("tegrastats") is not None


def measure_energy(call: Callable[[], object], seconds: float) -> Optional[dict[str, Any]]:
    """Let ``call`` make inferences for ``seconds``, apart from all timing, with power samples around it.

    ``per_inference_mj``, ``mean_mw``, ``idle_mw``, ``rail``, ``source``, ``inferences``, ``seconds``, ``samples``;
    None where no tool tells, where no rail carries everything, or where too few samples came.
    """
    program = find_tool("tegrastats")
    if program is None:
        return None
    with _Sampler([program, "--interval", str(INTERVAL_MS)]) as sampler:
        sampler.wait(_IDLE_S)
        start = perf_counter()
        inferences = 0
        while inferences == 0 or perf_counter() - start < seconds:
            call()
            inferences += 1
        end = perf_counter()
        sampler.wait(2 * INTERVAL_MS / 1000)
    idle = [sample for moment, sample in sampler.samples if moment < start]
    busy = [(moment, sample) for moment, sample in sampler.samples if start <= moment <= end]
    joules = energy_j(busy)
    if joules is None or len(busy) < _FEWEST:
        return None
    watched = busy[-1][0] - busy[0][0]
    mean_mw = joules / watched * 1000.0 if watched > 0 else 0.0
    return {
        # Readings cover almost all of the time; the rest is taken to cost as much.
        "per_inference_mj": max(0.0, mean_mw * (end - start) / inferences),
        "mean_mw": max(0.0, mean_mw),
        "idle_mw": _mean(idle),
        "rail": input_rail(busy[0][1]),
        "source": "tegrastats",
        "inferences": inferences,
        "seconds": end - start,
        "samples": len(busy),
    }


class _Sampler:
    """Reads tegrastats in a thread, each line with the moment it came."""

    def __init__(self, command: Sequence[str]) -> None:
        self.samples: list[tuple[float, TegrastatsSample]] = []
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._thread = threading.Thread(target=self._read, name="power", daemon=True)

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(_PATIENCE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def wait(self, seconds: float) -> None:
        """Let time pass, less when the tool has ended already."""
        self._thread.join(seconds)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            moment = perf_counter()
            self.samples.append((moment, parse_tegrastats(line.decode("utf-8", "replace"))))


def _mean(samples: Sequence[TegrastatsSample]) -> Optional[float]:
    values = [value for value in map(total_power_mw, samples) if value is not None]
    return max(0.0, sum(values) / len(values)) if values else None


def find_tool(name: str) -> Optional[str]:
    """Where a tool of the device lies; None when it is not installed."""
    return shutil.which(name) or shutil.which(name, path=_PLACES)


def _answer(name: str, *arguments: str) -> str:
    program = find_tool(name)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")
