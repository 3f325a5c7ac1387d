"""Fixtures that every room shares: a tiny model with a tokenizer, texts with labels, a recipe that takes seconds,
TensorRT's library, and an SSH server of our own on the loopback."""

from __future__ import annotations

import os

# Before torch, onnxruntime or tokenizers start their thread pools: oversubscription makes two cores crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import ast
import csv
import functools
import getpass
import importlib.util
import random
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pocketformer.pipeline.recipe import Recipe
    from pocketformer.runtime.tensorrt.library import Library
    from pocketformer.targets.remote import RemoteDevice

SSHD = Path("/usr/sbin/sshd")
TINY_LABELS = ("animal", "place", "person")
_WORDS = {
    "animal": ("cat", "dog", "horse", "bird", "fish", "wolf", "purrs", "barks"),
    "place": ("paris", "river", "city", "island", "desert", "where", "capital", "lake"),
    "person": ("who", "king", "writer", "doctor", "queen", "poet", "actor", "invented"),
}
_FILLERS = ("the", "a", "is", "what", "of", "in", "old", "very", "and", "near", "##s", "##ing")


def _tiny_examples(count: int = 60, seed: int = 7) -> tuple[list[str], list[int]]:
    rng = random.Random(seed)
    texts: list[str] = []
    labels: list[int] = []
    while len(texts) < count:
        label = len(texts) % len(TINY_LABELS)
        words = [rng.choice(_WORDS[TINY_LABELS[label]]) for _ in range(rng.randint(1, 3))]
        words += [rng.choice(_FILLERS[:10]) for _ in range(rng.randint(1, 5))]
        rng.shuffle(words)
        text = " ".join(words) + " ?"
        if text not in texts:
            texts.append(text)
            labels.append(label)
    return texts, labels


@pytest.fixture(scope="session")
def tiny_texts() -> list[str]:
    return _tiny_examples()[0]


@pytest.fixture(scope="session")
def tiny_labels() -> list[int]:
    return _tiny_examples()[1]


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT classifier with random weights: it proves structure, never accuracy."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("tiny") / "model"
    directory.mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", ".", ","]
    pieces += list(string.ascii_lowercase) + ["##" + c for c in string.ascii_lowercase]
    pieces += list(_FILLERS) + [word for words in _WORDS.values() for word in words]
    vocabulary = list(dict.fromkeys(pieces))
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(
        vocab_file=str(directory / "vocab.txt"),
        vocab={p: i for i, p in enumerate(vocabulary)},
        model_max_length=64,
    )
    tokenizer.save_pretrained(str(directory))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label=dict(enumerate(TINY_LABELS)),
        label2id={name: index for index, name in enumerate(TINY_LABELS)},
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(str(directory))
    return directory


def _write_rows(path: Path, texts: list[str], labels: list[int]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "label"])
        writer.writerows([text, TINY_LABELS[label]] for text, label in zip(texts, labels, strict=True))
    return path


@pytest.fixture(scope="session")
def tiny_files(
    tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str], tiny_labels: list[int]
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    train = _write_rows(folder / "train.csv", tiny_texts[:45], tiny_labels[:45])
    return train, _write_rows(folder / "test.csv", tiny_texts[45:], tiny_labels[45:])


@pytest.fixture(scope="session")
def small_bundle(tiny_model_dir: Path, tiny_texts: list[str], tmp_path_factory: Any) -> Path:
    """A bundle of the tiny model; not to be changed."""
    from pocketformer.compress.models import load_classifier
    from pocketformer.export.bundle import write_bundle
    from pocketformer.export.onnx_export import export_onnx
    from pocketformer.runtime.manifest import SessionSettings

    folder = tmp_path_factory.mktemp("small-bundle")
    return write_bundle(
        folder / "bundle",
        graph=export_onnx(load_classifier(tiny_model_dir), tiny_model_dir, folder / "model.onnx").output,
        tokenizer_json=tiny_model_dir / "tokenizer.json",
        labels=TINY_LABELS, max_length=16, pad_id=0, golden_texts=tiny_texts[:4], precision="fp32", target="cpu",
        session=SessionSettings(intra_op_threads=1, spinning=False), provenance={}, name="tiny",
    ).output  # fmt: skip


@pytest.fixture(scope="session")
def openvino() -> None:
    """Without OpenVINO and its quantizer, what needs them is skipped."""
    for name in ("openvino", "nncf"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'needs {name}: pip install "pocketformer[nncf]"')


@pytest.fixture(scope="session")
def openvino_bundle(small_bundle: Path, openvino: None, tiny_texts: list[str], tmp_path_factory: Any) -> Path:
    """The small bundle with its graph in OpenVINO; not to be changed."""
    from pocketformer.compress.quantize.openvino import write_openvino
    from pocketformer.export.bundle import write_bundle
    from pocketformer.runtime.manifest import SessionSettings

    folder = tmp_path_factory.mktemp("openvino-bundle")
    return write_bundle(
        folder / "bundle",
        graph=write_openvino(small_bundle / "model.onnx", folder / "model.xml").output,
        tokenizer_json=small_bundle / "tokenizer.json",
        labels=TINY_LABELS, max_length=16, pad_id=0, golden_texts=tiny_texts[:4], precision="fp32-weights-fp16",
        target="cpu", engine="openvino", session=SessionSettings(intra_op_threads=1), provenance={}, name="tiny",
    ).output  # fmt: skip


@pytest.fixture(scope="session")
def tiny_recipe(tiny_model_dir: Path, tiny_files: tuple[Path, Path]) -> Recipe:
    """Every kind of step, each as short as it can be."""
    from pocketformer.pipeline.recipe import Recipe

    brief: dict[str, Any] = {"augmentation": {"copies": 1}}
    steps: list[Any] = [
        {"finetune": {"training": {"epochs": 1, "batch_size": 8}}},
        {"distill": {"layers": 2, "training": {"epochs": 1, "batch_size": 8}, **brief}},
        {"prune": {"heads": 2, "ffn": 32}},
        {"vocabulary": {"size": 0.9}},
        "export",
        {"quantize": {"candidates": ["fp32", "dynamic-fused-reduced", "dynamic-plain"], "rounds": 2}},
        {"bundle": {"golden": 4}},
        {"bench": {"rounds": 5, "loadgen_s": 0, "cold_starts": 0}},
        "report",
    ]
    train, test = tiny_files
    return Recipe.from_mapping(
        {
            "model": tiny_model_dir,
            "data": {"train": train, "test": test},
            "max_length": 16,
            "threads": 1,
            # Random weights: any drop is allowed, the structure is what is tested.
            "budget": {"max_drop": 1.0},
            "steps": steps,
        }
    )


@pytest.fixture(scope="session")
def emulated_python() -> Callable[[str], Path]:
    """For the name of an ARM64 processor a program that stands for ``python3`` on a board with it."""
    path = Path(__file__).parent / "emulation" / "aarch64.py"
    spec = importlib.util.spec_from_file_location("emulation_aarch64", path)
    assert spec is not None
    assert spec.loader is not None
    aarch64 = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = aarch64
    spec.loader.exec_module(aarch64)

    def make(cpu: str) -> Path:
        try:
            python: Path = aarch64.emulated_python(cpu)
        except aarch64.EmulationError as error:
            pytest.skip(f"no ARM64 machine can be emulated here: {error}")
        return python

    return make


@pytest.fixture(scope="session")
def library() -> Library:
    """The installed TensorRT; without one, what needs it is skipped."""
    from pocketformer.runtime.errors import MissingDependencyError
    from pocketformer.runtime.tensorrt.library import load_library

    try:
        return load_library()
    except MissingDependencyError as error:
        pytest.skip(f"{error.message}; {error.hint}")


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Fail on a skip where everything is installed: a hole would not be seen. A GPU is nothing that one installs."""
    report = yield
    if (
        report.skipped
        and os.environ.get("POCKETFORMER_FORBID_SKIPS") == "1"
        and not hasattr(report, "wasxfail")
        and not (item.get_closest_marker("gpu") and why_no_gpu())
    ):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped where skips are forbidden: {report.longrepr}"
    return report


@functools.cache
def why_no_gpu() -> str | None:
    """What keeps tests marked ``gpu`` from running here; None where CUDA shows a GPU."""
    from pocketformer.runtime.backends.cuda import why_no_gpu

    return why_no_gpu()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, and say why."""
    reason = why_no_gpu() if item.get_closest_marker("gpu") else None
    if reason is not None:
        pytest.skip(f"needs an NVIDIA GPU: {reason}")


def _parse_python_3_9(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            keywords = {keyword.arg for keyword in node.keywords}
            assert not (name == "dataclass" and keywords & {"kw_only", "slots"}), f"{path}:{node.lineno}"
            assert not (name == "zip" and "strict" in keywords), f"{path}:{node.lineno}"
        # Aliases are run, whatever __future__ says of annotations.
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
            assert not isinstance(node.value.op, ast.BitOr), f"{path}:{node.lineno}: X | Y at run time"
    return tree


@pytest.fixture(scope="session")
def python_3_9() -> Callable[[Path], ast.Module]:
    """Parses a file and asserts that Python 3.9 can read and import it."""
    return _parse_python_3_9
