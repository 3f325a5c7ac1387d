"""A shell of its own that changes a Jetson's power mode and clocks, and puts back what was there before.

It stands before anything is changed, and puts back when its standard input ends: the agent closes that when the job
is over, and the kernel does when the agent dies, of SIGKILL or with its link. All that changes the device is done by
this one shell, in turn, so that a change cannot outrun what puts it back.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Optional

PATIENCE_S = 60.0
NO = b"no\n"  # to the question whether to reboot, and to every other one
_ANSWERED = "pocketformer-answered"
# Signals that end a session do not end it. It holds back what the tools say until they are done: with the agent dead
# nobody reads it. The folder with the stored clocks stays when a tool complained, for putting them back by hand.
_KEEPER = r"""trap '' HUP INT TERM PIPE
answer() { printf '%%s\n%(answered)s %%s\n' "$1" "$2"; }
while IFS= read -r word; do
    case $word in
        mode) said=$(printf 'no\n' | %(change)s 2>&1); answer "$said" $? ;;
        clocks) said=$(%(lock)s 2>&1 </dev/null); answer "$said" $? ;;
        leave) %(clear)s; exit 0 ;;
    esac
done
said=$(printf 'no\n' | %(mode)s 2>&1; %(clocks)s 2>&1 </dev/null || echo "Error: exit code $?")
case $said in *ERROR*|*Error*|*[Rr]eboot*) ;; *) %(clear)s ;; esac
printf '%%s\n' "$said"
"""


@dataclass(frozen=True)
class Tools:
    """Where the tools lie, and what stands before a call that needs an administrator's rights."""

    nvpmodel: str
    jetson_clocks: Optional[str]
    rights: tuple[str, ...]

    def nvpmodel_call(self, mode: int) -> list[str]:
        """Go to the mode of this number. Never with --force, which reboots without asking."""
        return [*self.rights, self.nvpmodel, "-m", str(mode)]

    def clocks_call(self, *arguments: str) -> list[str]:
        """Lock the clocks, or what ``arguments`` say."""
        return [*self.rights, str(self.jetson_clocks), *arguments]


class Keeper:
    """The shell that puts back; it stands from its making until ``leave`` or ``restore``."""

    def __init__(self, tools: Tools, before: int, wanted: int, store: Optional[Path]) -> None:
        script = _KEEPER % {
            "answered": _ANSWERED,
            "change": shlex.join(tools.nvpmodel_call(wanted)),
            "lock": ":" if store is None else shlex.join(tools.clocks_call()),
            # nvpmodel may ask for a reboot even to the mode that is in use.
            "mode": ":" if wanted == before else shlex.join(tools.nvpmodel_call(before)),
            "clocks": ":" if store is None else shlex.join(tools.clocks_call("--restore", str(store))),
            "clear": ":" if store is None else f"rm -rf {shlex.quote(str(store.parent))}",
        }
        self.holds = True
        self._process = subprocess.Popen(
            ["sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ask(self, word: str) -> tuple[int, str]:
        """Let it change the ``mode`` or lock the ``clocks``; exit code and words of the tool."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(word.encode("ascii") + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return -1, "what should put it back was killed"
        said, deadline = b"", monotonic() + PATIENCE_S
        while monotonic() < deadline:
            if not select.select([self._process.stdout], [], [], 1.0)[0]:
                continue
            block = os.read(self._process.stdout.fileno(), 65536)
            said += block
            head, mark, code = said.decode("utf-8", "replace").rpartition(f"\n{_ANSWERED} ")
            if mark and code.endswith("\n"):
                return int(code), head
            if not block:
                return -1, "what should put it back was killed"
        return -1, f"it did not end within {PATIENCE_S:g} s"

    def leave(self) -> None:
        """End it without touching anything."""
        self.holds = False
        self._communicate(b"leave\n")

    def restore(self) -> str:
        """Let it put back what was there before; what the tools said."""
        self.holds = False
        return self._communicate(None)

    def _communicate(self, word: Optional[bytes]) -> str:
        try:
            said, _ = self._process.communicate(word, timeout=2 * PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "it has not ended yet"  # and is left alone: it may still come to its end
        except BrokenPipeError:
            return "it was killed"
        return said.decode("utf-8", "replace")
