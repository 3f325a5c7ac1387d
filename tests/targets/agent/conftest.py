"""The agent as one file, a bundle of the tiny model for it, and an SSH server of our own on the loopback."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.runtime.manifest import SessionSettings
from pocketformer.runtime.model import Model, load
from pocketformer.targets.agent.build import build_agent
from pocketformer.targets.remote import RemoteDevice
from pocketformer.targets.ssh import SshOptions

SSHD = Path("/usr/sbin/sshd")


@dataclass(frozen=True)
class Spoken:
    """How an agent ended, and its events."""

    code: int
    events: list[dict[str, Any]]
    err: str

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    @property
    def error(self) -> dict[str, Any]:
        """The one error, which stands last and says the exit code that the process ended with."""
        (error,) = self.of("error")
        assert self.events[-1] == error
        assert error["exit_code"] == self.code
        return error


def bare_environment() -> dict[str, str]:
    """Nothing that could lend the agent this checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_agent(tmp_path_factory.mktemp("agent") / "agent.pyz")


@pytest.fixture(scope="session")
def run_agent(agent: Path) -> Callable[..., Spoken]:
    def run(*arguments: object, python: tuple[str, ...] = (), stdin: bytes = b"") -> Spoken:
        done = subprocess.run(
            [sys.executable, *python, str(agent), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
            cwd=agent.parent,
            env=bare_environment(),
        )
        events = [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]
        return Spoken(done.returncode, events, done.stderr.decode())

    return run


def _write_graph(path: Path, vocabulary: int) -> None:
    """Embeddings of words and of 64 positions, averaged under the mask: random weights, and no torch to wait for."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    shapes = {"words": (vocabulary, 128), "places": (64, 128), "types": (2, 128), "head": (128, 3)}
    constants = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name in ("places", "types"):
        constants[name] *= 0.1  # the words decide, so that texts get different labels
    integers = {"one": np.array(1), "axis": np.array(1), "last": np.array([-1]), "row": np.array([1])}
    steps = [
        ("Mul", ["token_type_ids", "zero"], "zeros"),
        ("Add", ["zeros", "one"], "ones"),
        ("CumSum", ["ones", "axis"], "count"),
        ("Sub", ["count", "one"], "positions"),
        ("Gather", ["words", "input_ids"], "w"),
        ("Gather", ["places", "positions"], "p"),
        ("Gather", ["types", "token_type_ids"], "t"),
        ("Sum", ["w", "p", "t"], "x"),
        ("Unsqueeze", ["attention_mask", "last"], "m"),
        ("CastLike", ["m", "x"], "mask"),
        ("Mul", ["x", "mask"], "kept"),
        ("ReduceSum", ["kept", "row"], "total"),
        ("ReduceSum", ["mask", "row"], "length"),
        ("Div", ["total", "length"], "mean"),
        ("Squeeze", ["mean", "row"], "pooled"),
        ("MatMul", ["pooled", "head"], "logits"),
    ]
    names = ("input_ids", "attention_mask", "token_type_ids")
    integers["zero"] = np.array(0)
    graph = helper.make_graph(
        [helper.make_node(kind, taken, [given]) for kind, taken, given in steps],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in {**constants, **integers}.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def _write_tokenizer(path: Path, texts: list[str]) -> int:
    """Whole words between special tokens; returns how many there are."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({word for text in texts for word in text.split()})]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))
    return len(words)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle; not to be changed: `bundle` gives a copy."""
    from pocketformer.export.bundle import write_bundle

    folder = tmp_path_factory.mktemp("tiny-bundle")
    _write_graph(folder / "model.onnx", _write_tokenizer(folder / "tokenizer.json", tiny_texts))
    return write_bundle(
        folder / "cpu",
        graph=folder / "model.onnx",
        tokenizer_json=folder / "tokenizer.json",
        labels=("animal", "place", "person"),
        max_length=16,
        pad_id=0,
        golden_texts=tiny_texts[:5],
        precision="fp32",
        target="cpu",
        session=SessionSettings(intra_op_threads=1, spinning=False),
        provenance={"model": "tiny"},
        name="tiny",
    ).output


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def model(tiny_bundle: Path) -> Model:
    return load(tiny_bundle)


@pytest.fixture(scope="session")
def inputs(tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "inputs.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_texts))
    return path


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
def loopback(server: Server, tmp_path: Path) -> Iterator[Loopback]:
    """A device; whatever happened to it, nothing may be left there in the end."""
    folder = tmp_path / "device"
    folder.mkdir()
    loopback = Loopback(server, folder)
    yield loopback
    assert loopback.left() == []
