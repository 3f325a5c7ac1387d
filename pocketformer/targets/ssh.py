"""The system's OpenSSH client: how it is called, one call that runs, and what its failures mean.

Keys only, and only hosts that are known: nothing is asked, no password is taken, no new host key is accepted.
Messages name neither keys nor home directories.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pocketformer.runtime.errors import DeviceError, InputError, PocketformerError

_LOST = 255  # ssh's own exit code; everything else is the remote command's
_TAIL = 8192  # bytes kept of what was said on stderr
_LONGEST_LINE = 1 << 26
_NAME_ENDS = r"(?=[/\s:'\"]|$)"
_HOMES = re.compile(r"(/home/[^/\s:'\"]+|/root|/Users/[^/\s:'\"]+)" + _NAME_ENDS)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_HOST = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?)\Z")


@dataclass(frozen=True, kw_only=True)
class SshOptions:
    """How to connect: the private key and the known_hosts file (None: what ssh itself takes), and patience.

    A link is given up when ``alive_count`` questions, ``alive_interval_s`` seconds apart, got no answer.
    """

    identity: Path | None = None
    known_hosts: Path | None = None
    connect_timeout_s: int = 10
    alive_interval_s: int = 5
    alive_count: int = 3
    program: str = "ssh"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a device is: ``ssh://user@host:port``; user and port may be left to ssh's own configuration."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """``InputError`` for anything else, a password above all."""
        hint = "Write ssh://user@host or ssh://user@host:port."
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise InputError(f"this is not the address of a device: {error}", hint=hint) from error
        if parts.password is not None:
            raise InputError(
                "the address of a device holds a password",
                hint="Only keys are used: leave it out, and put your public key on the device.",
            )
        if parts.scheme != "ssh" or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise InputError(f"{text!r} is not the address of a device", hint=hint)
        # A name that begins with a dash would be an option of ssh.
        if not _HOST.match(parts.hostname or "") or (parts.username and not _NAME.match(parts.username)):
            raise InputError(f"{text!r} does not name a user and a host", hint=hint)
        return cls(host=str(parts.hostname), user=parts.username or None, port=port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"ssh://{user}{host}" + (f":{self.port}" if self.port else "")


def ssh_arguments(address: Address, options: SshOptions, command: str) -> list[str]:
    """The call of ssh that runs ``command``, a line for the shell over there.

    What stands here wins over the user's ssh configuration, which may still name a proxy or a short name.
    """
    settings = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "PreferredAuthentications": "publickey",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "ConnectTimeout": str(options.connect_timeout_s),
        "ServerAliveInterval": str(options.alive_interval_s),
        "ServerAliveCountMax": str(options.alive_count),
        "ControlMaster": "no",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "EscapeChar": "none",
        "RequestTTY": "no",
    }
    if options.identity is not None:
        settings["IdentityFile"] = _quoted(options.identity)
        settings["IdentitiesOnly"] = "yes"
    if options.known_hosts is not None:
        settings["UserKnownHostsFile"] = _quoted(options.known_hosts)
        settings["GlobalKnownHostsFile"] = "/dev/null"
    argv = [options.program]
    for name, value in settings.items():
        argv += ["-o", f"{name}={value}"]
    if address.port is not None:
        argv += ["-p", str(address.port)]
    if address.user is not None:
        argv += ["-l", address.user]
    return [*argv, "--", address.host, command]


def check_options(options: SshOptions) -> None:
    """``InputError`` for a file that is not there: ssh would pass over it, and fail for another reason."""
    for path, what, name in (
        (options.identity, "key", "--identity"),
        (options.known_hosts, "known_hosts", "--known-hosts"),
    ):
        if path is not None and not path.is_file():
            raise InputError(f"there is no {what} file at {scrub(str(path))}", hint=f"Check {name}.")


class SshCall:
    """One ssh process: its standard input, the lines of its output, the end of what it says on stderr."""

    def __init__(self, argv: list[str]) -> None:
        # A session of its own: Ctrl-C reaches us alone, and we end it in order.
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._stderr = b""
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    def lines(self) -> Iterator[str]:
        """Every line of standard output, as it comes."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline(_LONGEST_LINE):
            yield line.decode("utf-8", errors="replace").rstrip("\r\n")

    def write(self, data: bytes) -> bool:
        """Send to standard input; False when the other side reads no more."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except OSError:
            return False
        return True

    def close_input(self) -> None:
        """Say that nothing more comes."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except OSError:
            return  # the other side has gone already

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None when it has not ended within ``timeout_s``."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(1.0)
        return code

    def stop(self, patience_s: float = 5.0) -> int:
        """End it whatever it does: its input closes, which ends what it runs over there; then signals."""
        self.close_input()
        for end in (self.process.terminate, self.process.kill):
            if self.wait(patience_s) is not None:
                break
            end()
        self.process.wait()
        self._reader.join(1.0)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return self.process.returncode

    def stderr(self) -> str:
        """The end of what was said on stderr."""
        return self._stderr.decode("utf-8", errors="replace")

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        try:
            while block := self.process.stderr.read1(4096):  # type: ignore[attr-defined]
                self._stderr = (self._stderr + block)[-_TAIL:]
        except ValueError:
            return  # closed by stop()


def explain_failure(address: Address, code: int, stderr: str) -> PocketformerError | None:
    """What a failure of ssh itself means and what to do; None when the remote command ended with ``code``."""
    if code != _LOST:
        return None
    said = stderr.lower()
    place = f"[{address.host}]:{address.port}" if address.port not in (None, 22) else address.host
    if "unprotected private key" in said or "bad permissions" in said:
        return DeviceError(
            "ssh refuses the key: other users can read its file", hint="chmod 600 the key file."
        )
    if "identification has changed" in said or ("host key for" in said and "has changed" in said):
        return DeviceError(
            f"{address} shows another host key than the known one",
            hint="If the device was installed anew, compare its key at the device itself, then remove the old one "
            f"with ssh-keygen -R '{place}' and add the new one. If not, someone may stand in between.",
        )
    if "host key verification failed" in said or "host key is known" in said:
        port = f"-p {address.port} " if address.port else ""
        return DeviceError(
            f"the host key of {address} is not known",
            hint=f"Get it with ssh-keyscan {port}{address.host}, compare it at the device itself, and add it to "
            "known_hosts.",
        )
    if "permission denied (" in said or "too many authentication failures" in said:
        return DeviceError(
            f"{address} does not accept the key",
            hint="Put your public key into authorized_keys of that user on the device, and name the private key "
            "with --identity; a key with a passphrase has to be in ssh-agent.",
        )
    if "connection refused" in said:
        return DeviceError(
            f"{address} refuses connections",
            hint="Check the port, and that an SSH server runs on the device.",
        )
    if "could not resolve" in said or "name or service not known" in said:
        return DeviceError(
            f"no device is known as {address.host}", hint="Check the name, or give its IP address."
        )
    if "banner exchange" in said or "timed out" in said or "no route" in said or "unreachable" in said:
        return DeviceError(
            f"{address} cannot be reached", hint="Check that the device is on, and the network between."
        )
    return lost(address)


def lost(address: Address) -> DeviceError:
    """The link broke in the middle of something."""
    return DeviceError(
        f"the connection to {address} was lost",
        hint="Check the network and that the device is still on, then run again.",
    )


def scrub(text: str) -> str:
    """Text from elsewhere without control characters, which a terminal would obey, and without home directories."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(re.escape(home) + _NAME_ENDS, "~", text)
    text = _HOMES.sub("~", text)
    return "".join(letter if letter.isprintable() else " " for letter in text)[:2000].strip()


def _quoted(path: Path) -> str:
    """A path as ssh's configuration takes it: quoted, and no character of it expanded."""
    text = str(path.absolute())
    if '"' in text or "\n" in text or "$" in text:
        raise InputError(
            f"ssh cannot take the path {scrub(text)!r}", hint="Use one without quotes, dollars and line ends."
        )
    return '"' + text.replace("%", "%%") + '"'
