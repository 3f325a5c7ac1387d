"""This machine as a device: an SSH server of our own on the loopback, and what stands for a board's tools."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pocketformer.targets.remote import RemoteDevice

SSHD = Path("/usr/sbin/sshd")


class Server:
    """One sshd on a free port of the loopback, with keys of its own; it takes one user with one key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = self.make_key("user")
        self.known_hosts = folder / "known_hosts"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        host_key = self.make_key("host")
        shutil.copy(f"{self.key}.pub", folder / "authorized_keys")
        self.know(host_key)
        config = folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            "MaxStartups 100\nLogLevel ERROR\n"
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks its unprivileged half in
        with (folder / "sshd.log").open("wb") as log:
            self.process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(config)], stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "sshd.log").read_text()) from None
                time.sleep(0.05)

    def make_key(self, name: str) -> Path:
        path = self.folder / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(command, check=True)
        return path

    def know(self, host_key: Path) -> None:
        """Make the client expect this host key."""
        kind, key, *_ = Path(f"{host_key}.pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def drop_links(self) -> None:
        """Kill what serves the connections, and neither the server nor what runs in them."""
        for pid in descendants(self.process.pid):
            if process_name(pid) == "sshd":
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def descendants(parent: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended meanwhile
    found = [pid for pid, above in parents.items() if above == parent]
    return found + [below for pid in found for below in descendants(pid)]


def process_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def processes_in(folder: Path) -> list[str]:
    """The command lines of all processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not SSHD.exists() or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's client and server: apt-get install openssh-server")
    server = Server(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


class Loopback:
    """This machine as a device: a server, a folder on it, and what to connect with; all of it can be changed."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.settings: dict[str, Any] = {"identity": server.key, "known_hosts": server.known_hosts}
        self.python = sys.executable
        self.events: list[dict[str, Any]] = []
        self.hear: Callable[[dict[str, Any]], None] = lambda event: None

    def device(self) -> RemoteDevice:
        from pocketformer.targets.remote import RemoteDevice
        from pocketformer.targets.ssh import SshOptions

        def on_event(event: Any) -> None:
            self.events.append(event)
            self.hear(event)

        return RemoteDevice(
            self.server.address,
            python=self.python,
            folder=str(self.folder),
            options=SshOptions(**self.settings),
            on_event=on_event,
        )

    def python_that(self, body: str) -> None:
        """From now on the device's Python is a shell script with this body; $PY is the real one."""
        script = self.folder.parent / "python-there"
        script.write_text(f"#!/bin/sh\nPY='{sys.executable}'\n{body}\n")
        script.chmod(0o755)
        self.python = str(script)

    def left(self) -> list[str]:
        """What is still in the folder or still runs in it, when there has been time to end."""
        deadline = time.monotonic() + 15
        while True:
            rest = [path.name for path in self.folder.iterdir()] + processes_in(self.folder)
            if not rest or time.monotonic() > deadline:
                return rest
            time.sleep(0.05)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The state of what tests/targets/stand_ins play, in its mode 0; a Python that sources `environment` is there."""
    state = tmp_path / "board"
    state.mkdir()
    for name, text in {"mode": "0\n", "calls": "", "asks": "", "broken": ""}.items():
        (state / name).write_text(text)
    tools = Path(__file__).parent / "targets" / "stand_ins"
    (state / "environment").write_text(f'export STAND_IN_STATE="{state}" PATH="{tools}:$PATH"\n')
    return state


@pytest.fixture
def loopback(server: Server, tmp_path: Path) -> Iterator[Loopback]:
    """A device; whatever happened to it, nothing may be left there in the end."""
    folder = tmp_path / "device"
    folder.mkdir()
    loopback = Loopback(server, folder)
    yield loopback
    assert loopback.left() == []
