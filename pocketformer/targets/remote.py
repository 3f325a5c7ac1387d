"""A device at the other end of SSH: the agent is sent there, runs there, and leaves nothing behind.

One connection keeps a folder of its own on the device for as long as it stands; when it ends, for whatever
reason, the shell over there removes the folder. Every command is a connection beside it, and the agent ends by
itself when its own is gone::

    with RemoteDevice("ssh://user@board") as device:
        facts = device.probe()
        device.push(Path("out/bundles/cpu"))
        device.verify()
        timing = device.measure(texts)
"""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pocketformer.runtime.errors import (
    DeviceError,
    InputError,
    MissingDependencyError,
    PocketformerError,
    VerificationError,
)
from pocketformer.runtime.manifest import sha256_file
from pocketformer.targets.agent.build import build_agent
from pocketformer.targets.agent_answers import Event, read_events, refused
from pocketformer.targets.file_stream import Arrivals, write_tar
from pocketformer.targets.remote_scripts import DAMAGED, GONE, INSTALL, KEEP, NO_FOLDER, NO_SPACE, READY
from pocketformer.targets.remote_wheels import bring_packages
from pocketformer.targets.ssh import (
    Address,
    SshCall,
    SshOptions,
    check_options,
    explain_failure,
    lost,
    scrub,
    ssh_arguments,
)

log = logging.getLogger("pocketformer")

_ROOMIER = "Free some space on the device, or name a roomier place with --folder."


class RemoteDevice:
    """A device reached by SSH, connected from entering to leaving a ``with`` block.

    ``python`` is the interpreter over there (its PATH is not that of a login), ``folder`` where a folder for
    this session is made (None: its TMPDIR or /tmp). ``wheels``, a folder here, brings what that Python
    lacks, for this session alone. ``on_event`` hears every event of the agent.
    Failures of the link or the device are ``DeviceError``, of a bundle ``VerificationError``.
    """

    def __init__(
        self,
        address: str,
        *,
        python: str = "python3",
        folder: str | None = None,
        wheels: Path | None = None,
        options: SshOptions | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.address = Address.parse(address)
        self.python = python
        self.options = SshOptions() if options is None else options
        self._parent = '"${TMPDIR:-/tmp}"' if folder is None else _remote_word(folder)
        self._wheels = wheels
        self._packages: tuple[str, ...] = ()
        self._on_event = on_event
        self._keeper: SshCall | None = None
        self._folder = ""
        self._inputs = 0
        self._running: SshCall | None = None
        self._cancelled = False

    def __enter__(self) -> RemoteDevice:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def folder(self) -> str:
        """This session's folder on the device; ``DeviceError`` without a connection."""
        if self._keeper is None:
            raise DeviceError(f"{self.address} is not connected", hint="Use it in a with block.")
        return self._folder

    def connect(self) -> None:
        """Make the folder, send the agent, and what it lacks."""
        if shutil.which(self.options.program) is None:
            raise MissingDependencyError(
                f"OpenSSH's client {self.options.program!r} is not installed", hint="Install openssh-client."
            )
        check_options(self.options)
        keeper = self._call(KEEP.format(parent=self._parent))
        self._keeper = keeper
        for line in keeper.lines():
            if line.startswith(READY + "/"):
                self._folder = line[len(READY) :]
                break
        else:
            self._keeper = None
            raise self._no_folder(keeper)
        self._install()
        if self._wheels is not None and bring_packages(self, self._wheels):
            self._packages = ("--packages", f"{self._folder}/packages")

    def close(self) -> None:
        """Remove the folder over there, over a new connection if the first is lost."""
        keeper, folder = self._keeper, self._folder
        self._keeper, self._folder, self._packages = None, "", ()
        if keeper is None:
            return
        keeper.close_input()
        gone = keeper.wait(10.0) is not None and GONE in list(keeper.lines())
        keeper.stop()
        if folder and not gone and not self._remove(folder):
            message = f"whether {scrub(folder)} on {self.address} was removed is not known"
            log.warning("%s", message)
            if self._on_event is not None:
                self._on_event({"event": "warning", "kind": "folder-left", "message": message})

    def cancel(self) -> None:
        """From another thread: end what runs there, and let nothing more begin; the caller over there gets an error."""
        self._cancelled = True
        running = self._running
        if running is not None:
            running.process.terminate()

    def probe(self) -> dict[str, Any]:
        """What the device is: see ``describe`` of the agent."""
        return self.single("probe", "--folder", self.folder)

    def push(self, source: Path, name: str = "bundle") -> None:
        """Send a directory with all files in it, or one file; every hash is checked over there."""
        if source.is_dir():
            files = {
                path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()
            }
        elif source.is_file():
            files = {source.name: source}
        else:
            raise InputError(f"there is nothing at {source}", hint="Give a bundle's directory or a file.")
        self.send(dict(sorted(files.items())), name)

    def send(self, files: Mapping[str, Path | bytes], name: str) -> None:
        """As ``push``, of files by the names that they shall have over there."""
        sizes, announced = {}, {}
        for path, content in files.items():
            if isinstance(content, bytes):
                sizes[path], digest = len(content), hashlib.sha256(content).hexdigest()
            else:
                sizes[path], digest = content.stat().st_size, sha256_file(content)
            announced[path] = {"bytes": sizes[path], "sha256": digest}

        def feed(call: SshCall) -> None:
            if call.write(json.dumps({"files": announced}).encode("ascii") + b"\n"):
                write_tar(call, files, sizes)

        self.run("receive", f"{self.folder}/{name}", feed=feed)

    def verify(self, name: str = "bundle") -> dict[str, Any]:
        """Hashes and golden samples of a bundle that was pushed; ``VerificationError`` unless all hold."""
        return self.single("verify", f"{self.folder}/{name}")

    def predict(
        self, texts: Sequence[str], name: str = "bundle", *, logits: bool = True, batch_size: int = 32
    ) -> list[dict[str, Any]]:
        """For each text its ``label`` and, unless ``logits`` is False, its ``logits`` in the order of the labels."""
        output = "logits" if logits else "labels"
        options = ("--output", output, "--batch-size", str(batch_size))
        results = self.run("predict", f"{self.folder}/{name}", self._push_texts(texts), *options)
        rows = [row for result in results for row in result["rows"]]
        if len(rows) != len(texts):
            raise DeviceError(f"{self.address} answered {len(rows)} of {len(texts)} texts", hint="Run again.")
        return rows

    def measure(
        self,
        texts: Sequence[str],
        name: str = "bundle",
        *,
        rounds: int = 50,
        time_limit_s: float = 60.0,
        threads: int | None = None,
        loadgen_s: float = 0.0,
        batch_size: int = 32,
        energy_s: float = 5.0,
        power_mode: str | None = None,
        jetson_clocks: bool = False,
    ) -> dict[str, Any]:
        """Latency over there, with all samples, and energy where it tells: see ``measure_bundle`` of the agent.

        ``loadgen_s``: seconds for each of LoadGen's scenarios, ``batch_size`` rows at most a call; 0: without.
        ``power_mode`` and ``jetson_clocks`` are set for as long as it takes: see ``changed_power`` of the agent.
        """
        options = ["--rounds", str(rounds), "--time-limit", str(time_limit_s), "--energy-time", str(energy_s)]
        options += ["--loadgen-time", str(loadgen_s), "--batch-size", str(batch_size)]
        if threads is not None:
            options += ["--threads", str(threads)]
        options += [f"--power-mode={power_mode}"] if power_mode is not None else []
        options += ["--jetson-clocks"] if jetson_clocks else []
        return self.single("measure", f"{self.folder}/{name}", self._push_texts(texts), *options)

    def fetch(self, names: Sequence[str], source: str, folder: Path) -> None:
        """Bring files of the pushed directory ``source`` here, into ``folder``: all of them whole, or none.

        ``VerificationError`` when one is not what it was over there, ``NoSpaceError`` when the disk here is full.
        """
        with Arrivals(folder) as arrivals:
            told = self.single("give", f"{self.folder}/{source}", *names, on_data=arrivals.take)
            arrivals.check(told["files"], names)

    def run(
        self,
        command: str,
        *arguments: str,
        feed: Callable[[SshCall], None] | None = None,
        on_data: Callable[[Event], None] | None = None,
        timeout_s: float = 3600.0,
    ) -> list[dict[str, Any]]:
        """Run a command of the agent; its results in order.

        ``feed`` writes its standard input, ``on_data`` hears its ``data`` events, which nothing else does.
        """
        words = [f"{self.folder}/agent.pyz", "--leash", self.folder, "--host-time", f"{time.time():.3f}"]
        words += [*self._packages, command, *arguments]
        line = " ".join([_remote_word(self.python), *map(shlex.quote, words)])
        results: list[dict[str, Any]] = []
        rejected: list[Event] = []
        refusal: Event | None = None
        finished = False
        call = self._call(f"{line}; exit $?")  # a shell in between, which tells of a signal
        self._running = call
        if self._cancelled:
            call.process.terminate()
        late = threading.Timer(timeout_s, call.process.kill)
        late.start()
        try:
            if feed is not None:
                feed(call)
                call.close_input()
            for event in read_events(call.lines()):
                if event["event"] == "data":
                    if on_data is not None:
                        on_data(event)
                    continue
                if event["event"] == "result":
                    results.append({key: value for key, value in event.items() if key != "event"})
                elif event["event"] == "rejected":
                    rejected.append(event)
                refusal = event if event["event"] == "error" else refusal
                finished = finished or event["event"] == "done"
                if self._on_event is not None:
                    self._on_event(event)
            code = call.wait(30.0)
        finally:
            self._running = None
            timed_out = late.finished.is_set()
            late.cancel()
            call.stop()
        if refusal is not None:
            raise refused(refusal, rejected)
        if finished and code == 0:
            return results
        if timed_out:
            raise DeviceError(
                f"{command} on {self.address} did not end within {timeout_s:g} s",
                hint="Ask for less, or wait longer.",
            )
        raise self._failure(call)

    def single(
        self, command: str, *arguments: str, on_data: Callable[[Event], None] | None = None
    ) -> dict[str, Any]:
        """The result of a command that has one; as ``run``."""
        results = self.run(command, *arguments, on_data=on_data)
        if len(results) != 1:
            raise DeviceError(f"{self.address} gave {len(results)} results instead of one", hint="Run again.")
        return results[0]

    def _call(self, script: str) -> SshCall:
        # Whatever the login shell over there is, the script is one for sh.
        return SshCall(ssh_arguments(self.address, self.options, f"exec sh -c {shlex.quote(script)}"))

    def _install(self) -> None:
        with tempfile.TemporaryDirectory(prefix="pocketformer-agent-") as folder:
            data = build_agent(Path(folder) / "agent.pyz").read_bytes()
        words = ("-c", INSTALL, f"{self.folder}/agent.pyz", hashlib.sha256(data).hexdigest())
        call = self._call(f"{_remote_word(self.python)} {shlex.join(words)}; exit $?")
        try:
            call.write(data)
            call.close_input()
            code = call.wait(60.0)
        finally:
            call.stop()
        if code == NO_SPACE:
            raise DeviceError(f"the disk of {self.address} is full", hint=_ROOMIER)
        if code == DAMAGED:
            raise VerificationError("the agent was damaged on its way", hint="Run again.")
        if code != 0:
            raise self._failure(call)

    def _push_texts(self, texts: Sequence[str]) -> str:
        if not texts:
            raise InputError("there are no texts to send", hint="Give at least one.")
        self._inputs += 1
        name = f"inputs-{self._inputs}"
        content = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        self.send({"inputs.jsonl": content.encode("ascii")}, name)
        return f"{self.folder}/{name}/inputs.jsonl"

    def _remove(self, folder: str) -> bool:
        quoted = shlex.quote(folder)
        call = self._call(f"rm -rf {quoted} || {{ sleep 1; rm -rf {quoted}; }}")
        try:
            return call.wait(30.0) == 0
        finally:
            call.stop()

    def _no_folder(self, keeper: SshCall) -> PocketformerError:
        code = keeper.stop()
        said = keeper.stderr()
        if code == NO_FOLDER and "no space" in said.lower():
            return DeviceError(f"the disk of {self.address} is full", hint=_ROOMIER)
        if code == NO_FOLDER:
            return DeviceError(
                f"no folder can be made on {self.address}: {_last_line(said)}",
                hint="Name a folder with --folder that exists there and can be written to.",
            )
        return explain_failure(self.address, code, said) or DeviceError(
            f"{self.address} does not run commands: {_last_line(said)}", hint="Log in there and look."
        )

    def _failure(self, call: SshCall) -> PocketformerError:
        """Why a command over there ended without saying so itself."""
        code, said = call.process.returncode, call.stderr()
        explained = explain_failure(self.address, code, said)
        if explained is not None:
            return explained
        if code in (126, 127):
            return DeviceError(
                f"{scrub(self.python)!r} cannot be run on {self.address}",
                hint="Install Python there, or give its path with --python; PATH is not that of a login.",
            )
        if self._keeper is None or self._keeper.wait(1.0) is not None:
            return lost(self.address)  # the folder has gone with the first connection
        if code > 128:
            number = code - 128
            name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
            return DeviceError(
                f"the agent on {self.address} was killed ({name})",
                hint="Often the system had no memory left: stop other programs there, or choose a smaller model.",
            )
        return DeviceError(
            f"the agent on {self.address} ended with exit code {code}: {_last_line(said)}",
            hint="Check the Python there, or name another one with --python.",
        )


def _remote_word(text: str) -> str:
    """One word for the shell over there; a ~ in front stands for the home directory there."""
    if text == "~" or text.startswith("~/"):
        return '"$HOME"' + shlex.quote(text[1:] or "/")
    return shlex.quote(text)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return scrub(lines[-1]) if lines else "it said nothing"
