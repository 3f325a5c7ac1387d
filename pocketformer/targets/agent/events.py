"""What the agent says: one JSON object a line, in ASCII, so that no locale and no library can garble it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Optional, TextIO

from pocketformer.runtime.errors import DeviceError

PROTOCOL = 1  # raised when the meaning of an event changes
HOST_GONE = 4


class UnfitDeviceError(DeviceError):
    """This device cannot do what was asked; ``kind`` is the one word that a program can compare."""

    def __init__(self, kind: str, message: str, *, hint: Optional[str] = None) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class Events:
    """Writes events to ``stream`` and flushes each, so that the host sees it when it happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def send(self, event: str, values: Optional[Mapping[str, Any]] = None) -> None:
        """One event. With nobody left to read it the process ends: nothing more can be of use."""
        try:
            self._stream.write(json.dumps({"event": event, **(values or {})}) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            os._exit(HOST_GONE)

    def progress(self, message: str) -> None:
        """What is being done now."""
        self.send("progress", {"message": message})

    def warning(self, kind: str, message: str) -> None:
        """Something that the reader of the figures should know."""
        self.send("warning", {"kind": kind, "message": message})
