"""What the agent tells of a device, on made-up /sys trees, and what it takes from the host."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import tarfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from pocketformer.runtime.errors import InputError, PocketformerError, VerificationError
from pocketformer.targets.agent import device
from pocketformer.targets.agent.events import Events, UnfitDeviceError
from pocketformer.targets.agent.main import main
from pocketformer.targets.agent.receive import receive

Usage = namedtuple("Usage", "total used free")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def core(root: Path, number: int, limit: int, installed: int) -> None:
    folder = root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
    write(folder / "scaling_max_freq", f"{limit}\n")
    write(folder / "cpuinfo_max_freq", f"{installed}\n")


def zone(root: Path, number: int, kind: str, temperature: str, *trips: tuple[str, int]) -> None:
    folder = root / f"sys/class/thermal/thermal_zone{number}"
    write(folder / "type", f"{kind}\n")
    write(folder / "temp", temperature)
    for index, (trip, value) in enumerate(trips):
        write(folder / f"trip_point_{index}_type", f"{trip}\n")
        write(folder / f"trip_point_{index}_temp", f"{value}\n")


def test_a_machine_that_tells_nothing_is_not_held_back(tmp_path: Path) -> None:
    assert device.throttling(tmp_path) == []
    assert device.temperatures(tmp_path) == []
    assert device.board_model(tmp_path) is None


def test_a_lowered_frequency_limit(tmp_path: Path) -> None:
    for number in range(4):
        core(tmp_path, number, 1_200_000, 1_800_000)
    core(tmp_path, 4, 2_200_000, 2_200_000)
    core(tmp_path, 10, 1_000_000, 2_200_000)
    assert device.throttling(tmp_path) == [
        "cpu0 to cpu3: limited to 1200 MHz of 1800 MHz",
        "cpu10: limited to 1000 MHz of 2200 MHz",
    ]


def test_trip_points(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "85000", ("active", 50_000), ("passive", 85_000), ("critical", 105_000))
    zone(tmp_path, 1, "gpu-thermal", "61500", ("passive", 85_000), ("hot", 0), ("hot", -274_000))
    zone(tmp_path, 10, "broken", "not a number", ("passive", 10))
    assert device.throttling(tmp_path) == ["cpu-thermal: 85 degrees, at or above its passive point 85"]
    assert device.temperatures(tmp_path) == [
        {"zone": "thermal_zone0", "type": "cpu-thermal", "celsius": 85.0},
        {"zone": "thermal_zone1", "type": "gpu-thermal", "celsius": 61.5},
    ]


def test_the_board_is_named_by_its_device_tree(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/model", "Some Board Rev 1.0\0")
    write(tmp_path / "sys/class/dmi/id/product_name", "firmware\n")
    assert device.board_model(tmp_path) == "Some Board Rev 1.0"


def test_a_package_under_another_distribution_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "onnxruntime-gpu":
            return "1.23.0"
        raise device.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(device.metadata, "version", version)
    found = device.package_versions()
    assert found["onnxruntime"] == "1.23.0"
    assert found["numpy"] == "unknown"


@pytest.mark.parametrize("skew", [-30.0, 0.0, 30.0])
def test_connecting_takes_time_and_is_no_clock_skew(skew: float) -> None:
    assert device.clock_skew(1000.0, 1000.0 + skew) is None


def call(*arguments: object) -> tuple[int, list[dict[str, Any]]]:
    stream = io.StringIO()
    code = main([str(argument) for argument in arguments], Events(stream))
    return code, [json.loads(line) for line in stream.getvalue().splitlines()]


def packed(contents: dict[str, bytes], announced: dict[str, bytes] | None = None) -> io.BytesIO:
    """What the host sends: the list of files, then a tar stream."""
    entries = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in (contents if announced is None else announced).items()
    }
    stream = io.BytesIO()
    stream.write(json.dumps({"files": entries}).encode() + b"\n")
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    stream.seek(0)
    return stream


def test_files_arrive(tmp_path: Path) -> None:
    sent = {"a": b"1", "b/c": b"x" * 3_000_000, "empty": b""}
    result = receive(packed(sent), tmp_path / "there")
    assert result == {"files": 3, "bytes": 3_000_001}
    assert {name: (tmp_path / "there" / name).read_bytes() for name in sent} == sent


@pytest.mark.parametrize(
    ("contents", "announced", "message"),
    [
        ({"a": b"1"}, {"a": b"2"}, "a was damaged on its way"),
        ({"a": b"1"}, {}, "'a' arrived unannounced"),
        ({"a": b"1"}, {"a": b"1", "b": b"2"}, "b did not arrive"),
        ({"../a": b"1"}, {"a": b"1"}, "'../a' arrived unannounced"),
    ],
)
def test_files_that_are_not_as_announced(
    tmp_path: Path, contents: dict[str, bytes], announced: dict[str, bytes], message: str
) -> None:
    with pytest.raises(VerificationError, match=message):
        receive(packed(contents, announced), tmp_path / "there")
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_breaks_off(tmp_path: Path) -> None:
    whole = packed({"a": b"x" * 100_000}).getvalue()
    for length in (0, 10, 1000, 50_000):
        with pytest.raises(VerificationError) as caught:
            receive(io.BytesIO(whole[:length]), tmp_path / "there")
        assert caught.value.exit_code == 5
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../a", "/a", "b//c", "b\\c", ""])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="leads out of the folder"):
        receive(packed({name: b"1"}), tmp_path / "there")
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.shutil, "disk_usage", lambda _: Usage(10_000_000, 9_000_000, 1_000_000))
    with pytest.raises(UnfitDeviceError, match=r"2\.0 MB are needed there and 1\.0 MB are free") as caught:
        receive(packed({"a": b"x" * 2_000_000}), tmp_path / "there")
    assert caught.value.kind == "no-space"
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_becomes_full_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pocketformer.targets.agent.receive._unpack", full)
    with pytest.raises(UnfitDeviceError, match="became full") as caught:
        receive(packed({"a": b"1"}), tmp_path / "there")
    assert caught.value.kind == "no-space"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("raised", "code", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 4, "no-space"),
        (OSError(errno.EACCES, "Permission denied", "/x"), 2, "bad-input"),
        (MemoryError(), 4, "low-memory"),
        (ImportError("no libgomp", name="onnxruntime"), 4, "missing-package"),
        (PocketformerError("nothing works"), 1, "failed"),
        (RuntimeError("a defect"), 1, "internal"),
    ],
)
def test_every_failure_is_one_error_event(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, code: int, kind: str
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(device, "describe", fail)
    ended, events = call("probe")
    assert ended == code
    assert [event["event"] for event in events] == ["hello", "error"]
    assert (events[-1]["kind"], events[-1]["exit_code"]) == (kind, code)
    assert events[-1]["message"]
