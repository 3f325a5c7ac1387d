"""A profile out of what probing told is one that `--target` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pocketformer.cli import run_command
from pocketformer.runtime.errors import DeviceError
from pocketformer.targets.probe import probe_cpu
from pocketformer.targets.probed_profile import profile_of, profile_of_gpu
from pocketformer.targets.profile import load_profile


def _board(**values: Any) -> dict[str, Any]:
    facts = {
        "model": "Cortex-A76",
        "board": "Raspberry Pi 5 Model B Rev 1.0",
        "architecture": "aarch64",
        "emulator": None,
        "threads": 4,
        "flags": {"dotprod": True, "i8mm": False},
        "memory_bytes": 8_000_000_000,
        "packages": {"onnxruntime": "1.20.1"},
    }
    return facts | values


def test_a_board_over_ssh() -> None:
    found = profile_of(_board(), reach="ssh://me@pi:2222")
    assert found.name == "raspberry-pi-5-model-b-rev-1-0"
    assert found.description == "Raspberry Pi 5 Model B Rev 1.0 (aarch64), 4 cores, dotprod"
    assert (found.memory_mb, found.runtime_version, found.reach) == (8000, "1.20.1", "ssh://me@pi:2222")


def test_what_is_not_told_stays_open() -> None:
    found = profile_of(_board(memory_bytes=None, packages=None, board=None, emulator="qemu", model="???"))
    assert (found.memory_mb, found.runtime_version, found.name) == (None, None, "device")
    assert found.reach == "emulated"
    with pytest.raises(DeviceError, match="riscv64"):
        profile_of(_board(architecture="riscv64"))


def test_a_gpu() -> None:
    found = profile_of_gpu({"name": "NVIDIA L4", "compute_capability": "8.9", "memory_bytes": 24e9})
    assert (found.name, found.compute_capability, found.memory_mb) == ("nvidia-l4", "8.9", 24_000)
    assert found.providers == ("CUDAExecutionProvider", "CPUExecutionProvider")


def test_this_machine_as_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "here.yaml"
    assert run_command(["targets", "probe", "--profile", str(path)]) == 0
    assert "--target" in capsys.readouterr().err
    found = load_profile(path)
    assert found.architecture == probe_cpu()["architecture"]
    assert run_command(["targets", "probe", "--profile", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run_command(["targets", "probe", "--profile", str(tmp_path / "here.txt")]) == 2
