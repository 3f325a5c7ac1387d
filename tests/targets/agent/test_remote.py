"""A device over real SSH: a server on the loopback, the whole way, and everything that can go wrong on it.

The `loopback` fixture checks after each test that nothing is left in the device's folder and nothing runs there.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.cli import run_command
from pocketformer.runtime.errors import DeviceError, MissingDependencyError, VerificationError
from pocketformer.runtime.model import Model
from pocketformer.targets.remote import RemoteDevice


def test_the_whole_way(loopback: Any, tiny_bundle: Path, model: Model, tiny_texts: list[str]) -> None:
    with loopback.device() as device:
        facts = device.probe()
        assert facts["packages"]["onnxruntime"]
        assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
        device.push(tiny_bundle)
        there = loopback.folder / Path(device.folder).name / "bundle"
        assert {path.name: path.read_bytes() for path in there.iterdir()} == {
            path.name: path.read_bytes() for path in tiny_bundle.iterdir()
        }
        assert device.verify()["ok"]
        rows = device.predict([*tiny_texts, "cat \ud800 \N{SNOWMAN}"])
        expected = model.logits([*tiny_texts, "cat \ud800 \N{SNOWMAN}"])
        np.testing.assert_array_equal(np.array([row["logits"] for row in rows], np.float32), expected)
        timing = device.measure(tiny_texts[:3], rounds=1)
        assert len(timing["workloads"]["real"]["seconds"]) == 4
        assert "1x32" in timing["workloads"]
    names = [event["event"] for event in loopback.events]
    assert names.count("hello") == names.count("done") == 7
    assert "measuring real" in [event.get("message") for event in loopback.events]
    with pytest.raises(DeviceError, match="is not connected"):
        device.probe()


def test_probe_from_the_command_line(loopback: Any) -> None:
    server = loopback.server
    out, err = io.StringIO(), io.StringIO()
    arguments = ["targets", "probe", server.address, "--python", sys.executable, "--folder", loopback.folder]
    arguments += ["--identity", server.key, "--known-hosts", server.known_hosts, "--json"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert run_command([str(argument) for argument in arguments]) == 0, err.getvalue()
    facts = json.loads(out.getvalue())
    assert facts["threads"] >= 1
    assert facts["packages"]["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--python", "python3"], 2, "need the address of a device"),
        (["ssh://me:secret@board"], 2, "holds a password"),
        (["board"], 2, "is not the address of a device"),
        (["ssh://me@board", "--identity", "/no/such/key"], 2, "no key file at"),
    ],
)
def test_bad_input_on_the_command_line(arguments: list[str], code: int, message: str) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's client")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert run_command(["targets", "probe", *arguments]) == code
    assert message in err.getvalue()
    assert "secret" not in err.getvalue()
    assert out.getvalue() == ""


def refused(device: RemoteDevice, message: str, hint: str) -> None:
    """Connecting fails with this, and names neither keys nor homes."""
    with pytest.raises(DeviceError, match=message) as caught:
        device.__enter__()
    assert caught.value.exit_code == 4
    assert hint in str(caught.value.hint)
    assert f"{Path.home()}/" not in str(caught.value)


def test_a_wrong_key(loopback: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    loopback.settings["identity"] = other
    refused(loopback.device(), "does not accept the key", "authorized_keys")


def test_a_changed_host_key(loopback: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    kind, key, *_ = Path(f"{other}.pub").read_text().split()
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{loopback.server.port} {kind} {key}\n")
    loopback.settings["known_hosts"] = known
    refused(loopback.device(), "shows another host key", "ssh-keygen -R '[127.0.0.1]:")
    assert known.read_text().split()[-1] == key


def test_an_unknown_host(loopback: Any, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text("")
    loopback.settings["known_hosts"] = known
    refused(loopback.device(), "the host key of .* is not known", "ssh-keyscan -p")
    assert known.read_text() == ""


def test_nobody_listens(loopback: Any) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else can take the port meanwhile
        taken.bind(("127.0.0.1", 0))
        refused(
            RemoteDevice(f"ssh://me@127.0.0.1:{taken.getsockname()[1]}"), "refuses connections", "SSH server"
        )


def test_no_client_here(loopback: Any) -> None:
    loopback.settings["program"] = "no-such-ssh"
    with pytest.raises(MissingDependencyError, match="'no-such-ssh' is not installed") as caught:
        loopback.device().__enter__()
    assert caught.value.exit_code == 4


def test_no_python_there(loopback: Any) -> None:
    loopback.python = "/no/such/python3"
    refused(loopback.device(), "'/no/such/python3' cannot be run", "--python")


def test_a_python_there_that_is_too_old(loopback: Any, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/sitecustomize.py").write_text("import sys; sys.version_info = (3, 8, 10, 'final', 0)")
    loopback.python_that(f'PYTHONPATH=\'{tmp_path}/old\' exec "$PY" "$@"')
    with loopback.device() as device, pytest.raises(DeviceError, match=r"version 3\.8 there") as caught:
        device.probe()
    assert caught.value.exit_code == 4
    assert "newer Python" in str(caught.value.hint)


def test_no_onnxruntime_there(loopback: Any, tiny_bundle: Path) -> None:
    loopback.python_that('exec "$PY" -I -S "$@"')
    with loopback.device() as device:
        assert device.probe()["packages"]["onnxruntime"] is None
        device.push(tiny_bundle)
        with pytest.raises(DeviceError, match="no numpy and no onnxruntime") as caught:
            device.verify()
    assert caught.value.exit_code == 4
    assert "pip install" in str(caught.value.hint)


def test_no_such_folder_there(loopback: Any, tmp_path: Path) -> None:
    device = RemoteDevice(
        loopback.server.address, folder=str(tmp_path / "none"), options=loopback.device().options
    )
    refused(device, "no folder can be made on .*No such file", "--folder")


def test_a_bundle_that_is_damaged_on_the_way(loopback: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    script = tmp_path / "damaging-ssh"
    script.write_text(
        '#!/bin/bash\ncase "$*" in\n*" receive "*) LC_ALL=C sed "s/\\"label\\"/\\"lapel\\"/" | ssh "$@" ;;\n'
        '*) exec ssh "$@" ;;\nesac\n'
    )
    script.chmod(0o755)
    loopback.settings["program"] = str(script)
    with loopback.device() as device:
        with pytest.raises(VerificationError, match=r"golden\.jsonl was damaged on its way") as caught:
            device.push(tiny_bundle)
        assert [path.name for path in Path(device.folder).iterdir()] == ["agent.pyz"]
    assert caught.value.exit_code == 5
    assert "Send it again" in str(caught.value.hint)


def test_a_bundle_that_was_damaged_before(loopback: Any, bundle: Path) -> None:
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    with loopback.device() as device:
        device.push(bundle)
        with pytest.raises(VerificationError, match=r"files: model\.onnx has another SHA-256") as caught:
            device.verify()
    assert caught.value.exit_code == 5


def measure_forever(device: RemoteDevice, bundle: Path, texts: list[str]) -> None:
    device.push(bundle)
    device.measure(texts, rounds=100_000_000, time_limit_s=3600)


def when_measuring(loopback: Any, act: Any) -> None:
    """Call ``act`` with the agent's process id when it begins to measure."""
    pids: list[int] = []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "hello":
            pids.append(event["pid"])
        if event.get("message") == "measuring real":
            act(pids[-1])

    loopback.hear = hear


def test_the_agent_is_killed(loopback: Any, tiny_bundle: Path, tiny_texts: list[str]) -> None:
    when_measuring(loopback, lambda pid: os.kill(pid, signal.SIGKILL))
    with loopback.device() as device:
        with pytest.raises(DeviceError, match=r"was killed \(SIGKILL\)") as caught:
            measure_forever(device, tiny_bundle, tiny_texts)
        assert "memory" in str(caught.value.hint)
        assert device.probe()["threads"] >= 1  # the device itself is still there
    assert caught.value.exit_code == 4


def test_the_link_drops(loopback: Any, tiny_bundle: Path, tiny_texts: list[str]) -> None:
    when_measuring(loopback, lambda pid: loopback.server.drop_links())
    with (
        loopback.device() as device,
        pytest.raises(DeviceError, match=r"connection to .* was lost") as caught,
    ):
        measure_forever(device, tiny_bundle, tiny_texts)
    assert caught.value.exit_code == 4
    assert "network" in str(caught.value.hint)
    assert "folder-left" not in [event.get("kind") for event in loopback.events]


def test_the_device_goes_and_stays_away(
    loopback: Any, tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, tiny_texts: list[str]
) -> None:
    gone = type(loopback.server)(tmp_path_factory.mktemp("sshd"))
    loopback.server = gone
    loopback.settings |= {"identity": gone.key, "known_hosts": gone.known_hosts}

    def vanish(_: int) -> None:
        links = gone.drop_links
        gone.process.send_signal(signal.SIGSTOP)  # no new connections while the old ones are dropped
        links()
        gone.process.kill()
        gone.process.wait()

    when_measuring(loopback, vanish)
    with loopback.device() as device, pytest.raises(DeviceError, match="was lost"):
        measure_forever(device, tiny_bundle, tiny_texts)
    # The shell over there has removed the folder, but nobody could tell.
    assert "folder-left" in [event.get("kind") for event in loopback.events]


def test_only_the_first_connection_breaks(loopback: Any, tiny_bundle: Path) -> None:
    with loopback.device() as device:
        device._keeper.process.kill()
        with pytest.raises(DeviceError, match=r"connection to .* was lost"):
            device.push(tiny_bundle)


def test_the_host_is_interrupted(loopback: Any, tiny_bundle: Path, tiny_texts: list[str]) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    when_measuring(loopback, interrupt)
    with pytest.raises(KeyboardInterrupt), loopback.device() as device:
        measure_forever(device, tiny_bundle, tiny_texts)


def test_it_takes_too_long(loopback: Any, tiny_bundle: Path) -> None:
    with loopback.device() as device, pytest.raises(DeviceError, match="did not end within 0 s") as caught:
        device.run("receive", f"{device.folder}/x", feed=lambda call: call.wait(60), timeout_s=0)
    assert caught.value.exit_code == 4


def test_no_space_for_the_agent(loopback: Any, tiny_disk: Any) -> None:
    loopback.folder = tiny_disk("64k")
    refused(loopback.device(), "the disk of .* is full", "--folder")
    assert loopback.left() == []


def test_no_space_for_the_bundle(loopback: Any, tiny_disk: Any, tiny_bundle: Path, agent: Path) -> None:
    loopback.folder = tiny_disk(str(agent.stat().st_size + 32_768))  # the agent, folders, and little more
    with loopback.device() as device:
        with pytest.raises(DeviceError, match=r"are needed there and .* are free") as caught:
            device.push(tiny_bundle)
        assert [path.name for path in Path(device.folder).iterdir()] == ["agent.pyz"]
    assert caught.value.exit_code == 4
    assert "Free some space" in str(caught.value.hint)
    assert loopback.left() == []
