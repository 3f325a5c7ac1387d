"""Ends the agent when the host has gone: nobody would read its answer, and the device has other work to do."""

from __future__ import annotations

import os
import select
import sys
import threading
from pathlib import Path

from pocketformer.targets.agent.events import HOST_GONE

# Seldom, as a wake-up during a timed call costs it some microseconds.
_LOOK_EVERY_S = 2.0


def hold(folder: Path, *, until_input_ends: bool = True) -> None:
    """From now on end this process when its standard input closes, or when ``folder`` is no longer there.

    A link can die without the device's side noticing; the host then removes the folder over a new one.
    ``until_input_ends`` is False where something else reads standard input, and sees its end.
    """
    descriptors = [sys.stdin.fileno()] if until_input_ends else []
    threading.Thread(target=_watch, args=(descriptors, folder), name="leash", daemon=True).start()


def _watch(descriptors: list[int], folder: Path) -> None:
    while folder.is_dir():
        readable, _, _ = select.select(descriptors, [], [], _LOOK_EVERY_S)
        if readable and not os.read(readable[0], 4096):
            break
    os._exit(HOST_GONE)
