"""Wheels unpacked by the agent, where nothing but Python is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wheel_packing import write_wheel

from pocketformer.runtime.errors import InputError
from pocketformer.targets.agent.wheels import install_wheels


def test_a_wheel_goes_onto_the_path(run_agent: Callable[..., Any], tmp_path: Path) -> None:
    wheels, packages = tmp_path / "wheels", tmp_path / "packages"
    wheels.mkdir()
    files = {
        "numpy/__init__.py": "",
        "numpy-7.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: numpy\nVersion: 7.1\n",
        "numpy-7.1.data/purelib/numpy/pure.py": "pure = 1",
        "numpy-7.1.data/platlib/numpy/native.py": "native = 1",
        "numpy-7.1.data/scripts/f2py": "#!python",
        "numpy-7.1.data/data/share/doc": "text",
    }
    write_wheel(wheels / "numpy-7.1-py3-none-any.whl", files)
    write_wheel(wheels / "other-1-py3-none-any.whl", {"other.py": ""})
    bare = ("-I", "-S")
    spoken = run_agent("install", wheels, packages, python=bare)
    assert spoken.code == 0, spoken
    assert spoken.of("result")[0]["wheels"] == ["numpy-7.1-py3-none-any.whl", "other-1-py3-none-any.whl"]
    assert sorted(path.relative_to(packages).as_posix() for path in packages.rglob("*.py")) == [
        "numpy/__init__.py",
        "numpy/native.py",
        "numpy/pure.py",
        "other.py",
    ]
    assert list(wheels.iterdir()) == []
    assert not list(packages.rglob("*f2py*"))
    spoken = run_agent("--packages", packages, "packages", python=bare)
    (told,) = spoken.of("result")
    assert told["packages"] == {"numpy": "7.1", "onnxruntime": None, "tokenizers": None}
    assert told["interpreter"]["implementation"] == "cp"
    # What the device has itself comes first.
    spoken = run_agent("--packages", packages, "packages")
    assert spoken.of("result")[0]["packages"]["numpy"] != "7.1"


@pytest.mark.parametrize(
    "name", ["../outside", "/outside", "a/../../outside", "a\\..\\outside", "x.data/purelib/../../outside"]
)
def test_names_that_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels / "bad-1-py3-none-any.whl", {"fine.py": "", name: "text"})
    with pytest.raises(InputError, match="leads out of the folder"):
        install_wheels(wheels, tmp_path / "packages")
    assert not (tmp_path / "packages").exists()
    assert not list(tmp_path.rglob("outside"))


def test_a_file_that_is_no_wheel(run_agent: Callable[..., Any], tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    whole = write_wheel(tmp_path / "whole", {"fine.py": "text" * 1000}).read_bytes()
    for content in (b"not a zip", whole[:-10], whole.replace(b"text", b"tixt", 1)):
        (wheels / "bad-1-py3-none-any.whl").write_bytes(content)
        spoken = run_agent("install", wheels, tmp_path / "packages")
        assert spoken.code == 2
        assert "bad-1-py3-none-any.whl is not a whole wheel" in spoken.error["message"]
        assert not (tmp_path / "packages").exists()


def test_no_space(run_agent: Callable[..., Any], tiny_disk: Any, tmp_path: Path) -> None:
    disk = tiny_disk("64k")
    (tmp_path / "wheels").mkdir()
    write_wheel(tmp_path / "wheels/big-1-py3-none-any.whl", {"big.py": " " * 100_000})
    spoken = run_agent("install", tmp_path / "wheels", disk / "packages")
    assert spoken.code == 4
    assert spoken.error["kind"] == "no-space"
    assert list(disk.iterdir()) == []
