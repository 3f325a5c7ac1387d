"""Probing: the parsers on the files of other machines, and this machine whatever it is."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.targets.probe import FLAGS, cgroup_folders, parse_cpuinfo, parse_meminfo, probe, probe_cpu

X86 = """processor\t: 0
model name\t: Some Xeon @ 2.00GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_int8

processor\t: 1
model name\t: Some Xeon @ 2.00GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd0b
"""


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cpuinfo_of_x86_counts_only_flags_of_every_core() -> None:
    info = parse_cpuinfo(X86)
    assert info["model"] == "Some Xeon @ 2.00GHz"
    assert {"avx2", "avx512_vnni"} <= info["flags"]
    assert "amx_int8" not in info["flags"]


def test_cpuinfo_of_aarch64_has_features_and_no_model_name() -> None:
    info = parse_cpuinfo(ARM)
    assert info["model"] == "ARM implementer 0x41 part 0xd0b"
    assert info["flags"] & FLAGS["dotprod"]
    assert not info["flags"] & FLAGS["i8mm"]


@given(st.text())
def test_the_parsers_take_any_text(text: str) -> None:
    assert parse_cpuinfo(text).keys() == {"model", "flags"}
    assert all(value >= 0 for value in parse_meminfo(text).values())


@pytest.mark.parametrize(("told", "architecture"), [("AMD64", "x86_64"), ("arm64", "aarch64")])
def test_a_machine_with_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, architecture: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: told)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    root = machine(
        tmp_path,
        {
            "proc/cpuinfo": X86,
            "proc/meminfo": "MemTotal:  2000 kB\nMemAvailable: 500 kB\nHugePages_Total: 0\n",
            "proc/self/cgroup": "0::/app/worker\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/app/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/app/worker/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/app/memory.max": "1000000\n",
        },
    )
    result = probe_cpu(root)
    assert (result["model"], result["emulator"]) == ("Some Xeon @ 2.00GHz", None)
    assert result["architecture"] == architecture
    assert result["flags"] == {**dict.fromkeys(FLAGS, False), "avx2": True, "avx512": True, "vnni": True}
    assert (result["cores_available"], result["cpu_limit"], result["threads"]) == (4, 1.5, 2)
    assert (result["memory_bytes"], result["memory_available_bytes"]) == (1_000_000, 500 * 1024)


def test_limits_of_version_1(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 2000 kB\n",
            "proc/self/cgroup": "4:memory:/job\n2:cpu,cpuacct:/\n1:name=systemd:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    result = probe_cpu(root)
    assert (result["cpu_limit"], result["threads"]) == (0.5, 1)
    assert result["memory_bytes"] == 2000 * 1024


def test_folders_of_a_cgroup_go_from_the_inside_out(tmp_path: Path) -> None:
    top = tmp_path / "sys/fs/cgroup"
    assert cgroup_folders(tmp_path, "cpu", "0::/a/../b\n") == [top / "a/b", top / "a", top]
    assert cgroup_folders(tmp_path, "cpu", "5:cpuset:/x\n3:cpu:/y\n") == [top / "cpu/y", top / "cpu"]
    assert cgroup_folders(tmp_path, "cpu", "nonsense") == [top]


def test_a_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    result = probe_cpu(tmp_path)
    assert result["cores_available"] == result["cores_installed"] >= 1
    assert not any(result["flags"].values())
    assert result["cpu_limit"] is None
    assert result["memory_available_bytes"] is None


@pytest.mark.parametrize(
    ("real", "found"), [("/usr/bin/python3", None), ("/usr/bin/qemu-aarch64-static", "qemu-aarch64-static")]
)
def test_a_translator_hides_from_one_of_two_names(tmp_path: Path, real: str, found: str | None) -> None:
    for name, target in (("self", "/usr/bin/python3"), ("thread-self", real)):
        (tmp_path / "proc" / name).mkdir(parents=True)
        (tmp_path / "proc" / name / "exe").symlink_to(target)
    assert probe_cpu(tmp_path)["emulator"] == found


def test_this_machine_can_be_described_in_json() -> None:
    result = probe()
    assert json.loads(json.dumps(result)) == result
    assert 1 <= result["threads"] <= result["cores_available"] <= result["cores_installed"]
    assert result["model"]
