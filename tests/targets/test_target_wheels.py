"""Which wheel serves which Python: by the tags in its name alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from packaging.tags import sys_tags

from pocketformer.runtime.errors import InputError
from pocketformer.targets.agent.interpreter import download_command, interpreter
from pocketformer.targets.wheels import check_folder, choose_wheels, supported_tags


def python(
    version: str, machine: str, libc: str | None = "glibc 2.36", abi: str | None = None
) -> dict[str, Any]:
    name, _, number = (libc or "").partition(" ")
    major, minor = version.split(".")
    return {
        "implementation": "cp",
        "version": [int(major), int(minor)],
        "abi": abi or f"cp{major}{minor}",
        "machine": machine,
        "libc": name or None,
        "libc_version": [int(part) for part in number.split(".")] if number else None,
    }


DEBIAN = python("3.11", "aarch64")


@pytest.mark.parametrize(
    ("wheel", "device", "fits"),
    [
        # The Python.
        ("numpy-2.0.0-cp311-cp311-manylinux_2_17_aarch64.whl", DEBIAN, True),
        ("numpy-2.0.0-cp310-cp310-manylinux_2_17_aarch64.whl", DEBIAN, False),
        ("numpy-2.0.0-cp312-cp312-manylinux_2_17_aarch64.whl", DEBIAN, False),
        ("numpy-2.0.0-cp313-cp313t-manylinux_2_17_aarch64.whl", python("3.13", "aarch64"), False),
        (
            "numpy-2.0.0-cp313-cp313t-manylinux_2_17_aarch64.whl",
            python("3.13", "aarch64", abi="cp313t"),
            True,
        ),
        ("numpy-2.0.0-pp311-pypy311_pp73-manylinux_2_17_aarch64.whl", DEBIAN, False),
        # The stable ABI: of this minor version or an older one, and of no free-threaded Python.
        ("numpy-2.0.0-cp39-abi3-manylinux_2_17_aarch64.whl", DEBIAN, True),
        ("numpy-2.0.0-cp311-abi3-manylinux_2_17_aarch64.whl", DEBIAN, True),
        ("numpy-2.0.0-cp312-abi3-manylinux_2_17_aarch64.whl", DEBIAN, False),
        ("numpy-2.0.0-cp39-abi3-manylinux_2_17_aarch64.whl", python("3.13", "aarch64", abi="cp313t"), False),
        # No ABI.
        ("numpy-2.0.0-py3-none-any.whl", DEBIAN, True),
        ("numpy-2.0.0-py2.py3-none-any.whl", DEBIAN, True),
        ("numpy-2.0.0-py2-none-any.whl", DEBIAN, False),
        ("numpy-2.0.0-py312-none-any.whl", DEBIAN, False),
        ("numpy-2.0.0-py3-none-manylinux_2_28_aarch64.whl", DEBIAN, True),
        # The C library.
        ("numpy-2.0.0-cp311-cp311-manylinux_2_36_aarch64.whl", DEBIAN, True),
        ("numpy-2.0.0-cp311-cp311-manylinux_2_39_aarch64.whl", DEBIAN, False),
        ("numpy-2.0.0-cp311-cp311-manylinux2014_aarch64.whl", DEBIAN, True),
        ("numpy-2.0.0-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_39_aarch64.whl", DEBIAN, True),
        ("numpy-2.0.0-cp39-cp39-manylinux_2_28_aarch64.whl", python("3.9", "aarch64", "glibc 2.27"), False),
        ("numpy-2.0.0-cp311-cp311-manylinux2010_x86_64.whl", python("3.11", "x86_64", "glibc 2.17"), True),
        ("numpy-2.0.0-cp311-cp311-manylinux1_x86_64.whl", python("3.11", "x86_64", "glibc 2.17"), True),
        ("numpy-2.0.0-cp311-cp311-manylinux2014_x86_64.whl", python("3.11", "x86_64", "glibc 2.16"), False),
        ("numpy-2.0.0-cp311-cp311-musllinux_1_1_aarch64.whl", DEBIAN, False),
        ("numpy-2.0.0-cp311-cp311-musllinux_1_1_aarch64.whl", python("3.11", "aarch64", "musl 1.2"), True),
        ("numpy-2.0.0-cp311-cp311-musllinux_1_2_aarch64.whl", python("3.11", "aarch64", "musl 1.1"), False),
        ("numpy-2.0.0-cp311-cp311-manylinux_2_17_aarch64.whl", python("3.11", "aarch64", "musl 1.2"), False),
        ("numpy-2.0.0-cp311-cp311-manylinux_2_17_aarch64.whl", python("3.11", "aarch64", None), False),
        # The machine; vendors' own wheels name no C library.
        ("numpy-2.0.0-cp311-cp311-manylinux_2_17_x86_64.whl", DEBIAN, False),
        ("numpy-2.0.0-cp311-cp311-linux_aarch64.whl", DEBIAN, True),
        ("numpy-2.0.0-cp311-cp311-macosx_14_0_arm64.whl", DEBIAN, False),
        ("numpy-2.0.0-cp311-cp311-win_arm64.whl", DEBIAN, False),
        # What is no wheel, or another package.
        ("numpy-2.0.0.tar.gz", DEBIAN, False),
        ("numpy.whl", DEBIAN, False),
        ("numpy_financial-2.0.0-py3-none-any.whl", DEBIAN, False),
    ],
)
def test_what_fits(wheel: str, device: dict[str, Any], fits: bool) -> None:
    assert choose_wheels([wheel], {"numpy": ("numpy",)}, device) == {"numpy": wheel if fits else None}


def test_the_newest_that_fits() -> None:
    names = [
        "numpy-1.9.3-cp311-cp311-manylinux_2_17_aarch64.whl",
        "numpy-1.26.4-cp311-cp311-manylinux_2_17_aarch64.whl",
        "numpy-1.26.4rc1-cp311-cp311-manylinux_2_17_aarch64.whl",
        "numpy-2.4.0-cp312-cp312-manylinux_2_17_aarch64.whl",
        "onnxruntime-1.18.0-cp311-cp311-manylinux_2_17_aarch64.whl",
        "onnxruntime_gpu-1.18.0-cp311-cp311-linux_aarch64.whl",
        "onnxruntime_gpu-1.17.0-cp311-cp311-linux_aarch64.whl",
    ]
    packages = {
        "numpy": ("numpy",),
        "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
        "tokenizers": ("tokenizers",),
    }
    expected = {"numpy": names[1], "onnxruntime": names[4], "tokenizers": None}
    for order in (names, names[::-1]):
        assert choose_wheels(order, packages, DEBIAN) == expected
    newer = "onnxruntime_gpu-1.19.0-cp311-cp311-linux_aarch64.whl"
    assert choose_wheels([*names, newer], packages, DEBIAN)["onnxruntime"] == newer


def test_this_python_takes_what_pip_takes_here() -> None:
    """Against packaging's own look at this interpreter."""
    here = interpreter()
    if here["libc"] != "glibc":
        pytest.skip("packaging looks at another C library")
    linux = [tag for tag in sys_tags() if tag.platform != "any"]
    assert set(linux) == {tag for tag in supported_tags(here) if tag.platform != "any"}
    assert set(sys_tags()) == set(supported_tags(here))


@pytest.mark.parametrize(
    "device", [DEBIAN, python("3.10", "x86_64", "glibc 2.27"), python("3.12", "aarch64", "musl 1.2")]
)
def test_the_command_asks_for_what_fits(device: dict[str, Any]) -> None:
    words = download_command(device, ["numpy", "tokenizers"]).split()
    assert words[:2] == ["pip", "download"]
    assert words[-2:] == ["numpy", "tokenizers"]
    assert words[words.index("--python-version") + 1] == ".".join(map(str, device["version"]))
    platforms = [after for word, after in itertools.pairwise(words) if word == "--platform"]
    assert platforms
    assert set(platforms) <= {tag.platform for tag in supported_tags(device)}


def test_a_folder_without_wheels(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="there are no wheels in") as caught:
            check_folder(folder)
        assert "pip download" in str(caught.value.hint)
    (tmp_path / "a-1-py3-none-any.whl").touch()
    check_folder(tmp_path)
