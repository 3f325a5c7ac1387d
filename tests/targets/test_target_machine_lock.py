"""One process times while the others pause; all of it with real processes and real locks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pocketformer.targets.machine_lock import MachineLock

# Works in small steps and says so, until it is told to stop.
WORKER = """
import sys, time
from pathlib import Path
from pocketformer.targets.machine_lock import MachineLock
lock = MachineLock(Path(sys.argv[1]))
with lock.working():
    print("working", flush=True)
    for number in range(3000):
        Path(sys.argv[1], "steps").write_text(str(number))
        time.sleep(0.01)
        lock.give_way()
        if Path(sys.argv[1], "stop").exists():
            break
"""


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_work_pauses_while_somebody_times(tmp_path: Path) -> None:
    import time

    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline().strip() == "working"
        lock = MachineLock(tmp_path)
        with lock.working():  # beside the other
            before = _read(tmp_path / "steps")
            while _read(tmp_path / "steps") in (before, ""):
                time.sleep(0.01)
            with lock.timing():
                paused = _read(tmp_path / "steps")
                time.sleep(0.3)
                assert _read(tmp_path / "steps") == paused
        while _read(tmp_path / "steps") == paused:  # it goes on
            time.sleep(0.01)
        (tmp_path / "stop").touch()
        assert worker.wait(timeout=60) == 0
    finally:
        worker.kill()
        worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()


def test_a_killed_one_holds_nobody_up(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pocketformer.targets.machine_lock import MachineLock\n"
        "with MachineLock(Path(sys.argv[1])).timing(): print('timing', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "timing"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with MachineLock(tmp_path).timing():
        pass


def test_giving_way_without_work_is_nothing(tmp_path: Path) -> None:
    lock, other = MachineLock(tmp_path), MachineLock(tmp_path)
    with other.timing():
        lock.give_way()
    with pytest.raises(RuntimeError, match="while timed"), lock.working(), lock.timing():
        raise RuntimeError("while timed")
    with other.timing():  # and the lock is free again
        pass
