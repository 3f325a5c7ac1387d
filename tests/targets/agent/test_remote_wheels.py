"""A device whose Python lacks everything, over real SSH: the host brings wheels, and nothing of them stays there.

The wheels hold what real ones installed (see ``wheel_packing``).
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wheel_packing import pack_wheel, write_wheel

from pocketformer.cli import run_command
from pocketformer.runtime.errors import DeviceError, InputError
from pocketformer.runtime.model import Model
from pocketformer.targets.remote import RemoteDevice

NEEDED = ("numpy", "onnxruntime", "tokenizers")


def site_of(name: str) -> Path:
    """Where a distribution is installed here."""
    return Path(str(metadata.distribution(name).locate_file("")))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this machine's Python has of what the agent needs."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in NEEDED:
        pack_wheel(site_of(name), name, folder)
    return folder


@pytest.fixture(scope="module")
def empty_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with no package at all, and no pip."""
    folder = tmp_path_factory.mktemp("venv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin/python")


def with_wheels(loopback: Any, wheels: Path) -> RemoteDevice:
    device: RemoteDevice = loopback.device()
    device._wheels = wheels
    return device


def commands(loopback: Any) -> list[str]:
    return [event["command"] for event in loopback.events if event["event"] == "hello"]


def test_a_python_that_lacks_everything(
    loopback: Any,
    empty_python: str,
    wheels: Path,
    tiny_bundle: Path,
    model: Model,
    tiny_texts: list[str],
    tmp_path: Path,
) -> None:
    offered = Path(shutil.copytree(wheels, tmp_path / "offered"))
    pack_wheel(site_of("mlcommons-loadgen"), "mlcommons_loadgen", offered)
    write_wheel(offered / "numpy-99.0-cp36-cp36m-manylinux1_x86_64.whl", {"numpy.py": "of another Python"})
    write_wheel(offered / "click-8.0-py3-none-any.whl", {"click.py": "not asked for"})
    loopback.python = empty_python
    with with_wheels(loopback, offered) as device:
        assert commands(loopback) == ["packages", "receive", "install"]
        facts = device.probe()
        assert facts["packages"] == {name: metadata.version(name) for name in NEEDED}
        assert facts["u8s8_saturates"] is not None, "what needs onnxruntime can be told now"
        there = loopback.folder / Path(device.folder).name / "packages"
        assert {path.name for path in there.iterdir()} >= {"numpy", "onnxruntime", "tokenizers"}
        assert not list(there.glob("click*"))
        device.push(tiny_bundle)
        assert device.verify()["ok"]
        rows = device.predict(tiny_texts)
        timing = device.measure(tiny_texts[:3], rounds=1, loadgen_s=0.1)
    np.testing.assert_array_equal(
        np.array([row["logits"] for row in rows], np.float32), model.logits(tiny_texts)
    )
    assert timing["loadgen"]["driver"] == "mlcommons-loadgen"
    assert "missing-package" not in [event.get("kind") for event in loopback.events]
    # The fixture looks whether anything is left.


def test_what_the_device_has_is_not_replaced(
    loopback: Any, empty_python: str, wheels: Path, tiny_bundle: Path, tiny_texts: list[str], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    site, name = site_of("tokenizers"), f"tokenizers-{metadata.version('tokenizers')}.dist-info"
    for part in ("tokenizers", name):
        shutil.copytree(site / part, own / part)
    offered = Path(shutil.copytree(wheels, tmp_path / "offered"))
    write_wheel(offered / "tokenizers-99.0-py3-none-any.whl", {"tokenizers/__init__.py": "raise SystemExit"})
    loopback.python_that(f"PYTHONPATH='{own}' exec '{empty_python}' \"$@\"")
    with with_wheels(loopback, offered) as device:
        device.push(tiny_bundle)
        device.verify()
        timing = device.measure(tiny_texts[:3], rounds=1, loadgen_s=0.05)
        there = loopback.folder / Path(device.folder).name / "packages"
        assert not (there / "tokenizers").exists()
    assert timing["versions"] == {name: metadata.version(name) for name in NEEDED}
    assert (timing["loadgen"]["driver"], timing["loadgen"]["version"]) == ("own loop", None)


def test_nothing_is_sent_where_nothing_is_missing(loopback: Any, tmp_path: Path) -> None:
    write_wheel(tmp_path / "numpy-99.0-py3-none-any.whl", {"numpy.py": "newer, and not wanted"})
    with with_wheels(loopback, tmp_path) as device:
        assert device.probe()["packages"]["numpy"] == np.__version__
    assert commands(loopback) == ["packages", "probe"]


def test_no_wheel_that_fits(loopback: Any, empty_python: str, tmp_path: Path) -> None:
    offered = tmp_path / "wheels-of-mine"
    offered.mkdir()
    write_wheel(offered / "numpy-2.0-py3-none-any.whl", {"numpy.py": ""})
    write_wheel(offered / "onnxruntime-1.20-cp36-cp36m-win_amd64.whl", {"onnxruntime.py": ""})
    loopback.python = empty_python
    with pytest.raises(DeviceError, match="no wheel at hand brings onnxruntime and tokenizers to ") as caught:
        with_wheels(loopback, offered).__enter__()
    assert caught.value.exit_code == 4
    major, minor = sys.version_info[:2]
    assert f"Python {major}.{minor} (cp{major}{minor}) on " in str(caught.value)
    assert f"pip download --only-binary :all: --no-deps --python-version {major}.{minor} " in str(
        caught.value.hint
    )
    assert str(caught.value.hint).endswith("-d wheels onnxruntime tokenizers")
    assert commands(loopback) == ["packages"]
    assert str(tmp_path) not in f"{caught.value} {caught.value.hint}"


def test_no_wheels_at_all(loopback: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no wheels in"):
        with_wheels(loopback, tmp_path / "none").__enter__()


def test_no_space_for_the_packages(loopback: Any, empty_python: str, wheels: Path, tiny_disk: Any) -> None:
    loopback.folder = tiny_disk("8m")
    loopback.python = empty_python
    with pytest.raises(DeviceError, match=r"are needed there and .* are free") as caught:
        with_wheels(loopback, wheels).__enter__()
    assert caught.value.exit_code == 4
    assert loopback.left() == []


def test_from_the_command_line(loopback: Any, empty_python: str, wheels: Path) -> None:
    server = loopback.server
    out, err = io.StringIO(), io.StringIO()
    arguments = ["targets", "probe", server.address, "--python", empty_python, "--folder", loopback.folder]
    arguments += ["--identity", server.key, "--known-hosts", server.known_hosts, "--wheels", wheels, "--json"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert run_command([str(argument) for argument in arguments]) == 0, err.getvalue()
    assert json.loads(out.getvalue())["packages"]["onnxruntime"] == metadata.version("onnxruntime")
    assert err.getvalue() == ""


@pytest.mark.slow
def test_an_arm_board_that_lacks_everything(
    loopback: Any,
    emulated_python: Callable[[str], Path],
    tiny_bundle: Path,
    model: Model,
    tiny_texts: list[str],
    wheels: Path,
    tmp_path: Path,
) -> None:
    python = emulated_python("cortex-a76")
    # Debian's site module puts its packages on the path; without it the emulated Python has none.
    loopback.python_that(f"exec '{python}' -S \"$@\"")
    site = (python.parent / "usr/lib/python3/dist-packages").resolve()
    offered = Path(shutil.copytree(wheels, tmp_path / "offered"))
    for name in NEEDED:
        pack_wheel(site, name, offered)
    with with_wheels(loopback, offered) as device:
        facts = device.probe()
        assert (facts["architecture"], facts["interpreter"]["libc"]) == ("aarch64", "glibc")
        assert facts["packages"] == {name: metadata.version(name) for name in NEEDED}
        device.push(tiny_bundle)
        assert device.verify()["ok"]
        rows = device.predict(tiny_texts[:12])
    answers = np.array([row["logits"] for row in rows], np.float32)
    np.testing.assert_allclose(answers, model.logits(tiny_texts[:12]), atol=1e-5)
