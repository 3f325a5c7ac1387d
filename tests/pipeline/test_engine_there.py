"""What the host decides of an engine that a device builds: for which GPU, with which timings, what a rejection says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from pocketformer.pipeline import engine_there
from pocketformer.pipeline.engine_rows import _why_not_run
from pocketformer.pipeline.engine_stages import Prepared, TensorrtConfig, target_settings
from pocketformer.pipeline.fleet import FleetDevice
from pocketformer.runtime.errors import DeviceError, ExportError
from pocketformer.runtime.tensorrt.config import EngineConfig
from pocketformer.runtime.tensorrt.parser import Complaint, RejectedGraphError
from pocketformer.targets import remote_build
from pocketformer.targets.remote import RemoteDevice
from pocketformer.targets.remote_build import Builder

AHEAD = Builder(
    library="tensorrt_rtx",
    version="1.7.1",
    compute_capabilities=("8.6", "8.9"),
    gpu=None,
    no_gpu="there is no NVIDIA driver",
    driver=None,
)
ORIN = Builder(
    library="tensorrt", version="10.3.0", compute_capabilities=(), gpu="8.7", no_gpu=None, driver="12.6"
)


@pytest.mark.parametrize(
    ("builder", "named", "chosen"),
    [(AHEAD, ("8.9",), "8.9"), (ORIN, ("8.7",), "8.7"), (ORIN, (), "8.7")],
)
def test_the_gpu_to_build_for(builder: Builder, named: tuple[str, ...], chosen: str) -> None:
    assert engine_there._capability(builder, named, "ssh://me@a") == chosen


@pytest.mark.parametrize(
    ("builder", "named", "message"),
    [
        (AHEAD, (), "is not said, and it shows none: there is no NVIDIA driver"),
        (ORIN, ("11.0",), r"has compute capability 8\.7, and 11\.0 is asked for"),
    ],
)
def test_a_gpu_that_is_not_known_or_another_is_refused(
    builder: Builder, named: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DeviceError, match=message) as caught:
        engine_there._capability(builder, named, "ssh://me@a")
    assert caught.value.exit_code == 4


def test_timings_are_kept_for_each_device_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = engine_there._timing_cache(ORIN, "fe80::1")
    assert kept == tmp_path / "pocketformer" / "tensorrt-10.3.0-fe80__1.timings"
    assert engine_there._timing_cache(AHEAD, "board") is None


def test_why_an_engine_is_built_only() -> None:
    whole: dict[str, Any] = {"packages": {"numpy": "2", "onnxruntime": "1", "tokenizers": "0.22"}}
    assert _why_not_run(ORIN, "8.7", whole) is None
    assert _why_not_run(AHEAD, "8.9", whole) == "there is no NVIDIA driver"
    assert _why_not_run(ORIN, "8.9", whole) == "its GPU has compute capability 8.7"
    bare = {"packages": whole["packages"] | {"onnxruntime": None}}
    assert _why_not_run(ORIN, "8.7", bare) == "its Python has no onnxruntime"


def test_settings_of_a_device(tmp_path: Path) -> None:
    profile = tmp_path / "orin.yaml"
    profile.write_text(
        "name: orin\ndescription: Mine\nruntime: tensorrt\nprecisions: [fp16]\nreach: ssh://me@orin\n"
    )
    reached = {"python": "/usr/bin/python3"}
    device = FleetDevice(name="orin", address="ssh://me@orin", python="/usr/bin/python3")
    assert target_settings(str(profile), reached) == {
        "library": "tensorrt",
        "precision": "fp16",
        "compute_capabilities": [],
        "device": device,
    }
    alone = target_settings("ssh://me@orin", reached)
    assert alone["device"] == FleetDevice(address="ssh://me@orin", python="/usr/bin/python3")
    assert "library" not in alone


def test_a_rejection_over_there_says_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    node = helper.make_node("FastPath", ["x"], ["y"], name="fast", domain="example.company")
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("example.company", 1)]
    graph = helper.make_graph([node], "bad", values[:1], values[1:])
    onnx.save_model(helper.make_model(graph, opset_imports=imports, ir_version=8), str(tmp_path / "m.onnx"))
    prepared = Prepared(graph=tmp_path / "m.onnx", settings=EngineConfig(), metrics={}, notes=())

    def rejects(*_: Any, **__: Any) -> None:
        raise RejectedGraphError("no", [Complaint(0, "fast", "FastPath", "no plugin")])

    monkeypatch.setattr(engine_there, "prepare_engine", lambda *_: prepared)
    monkeypatch.setattr(remote_build, "find_builder", lambda *_: ORIN)
    monkeypatch.setattr(remote_build, "build_there", rejects)
    device = RemoteDevice("ssh://me@orin")
    with pytest.raises(ExportError, match=r"tensorrt 10\.3\.0 on ssh://me@orin rejects 1 nodes") as caught:
        engine_there.build_on(device, TensorrtConfig(compute_capabilities=()), Any, tmp_path)  # type: ignore[arg-type]
    assert "fast (example.company.FastPath): no plugin" in caught.value.message
    assert "another domain" in str(caught.value.hint)
