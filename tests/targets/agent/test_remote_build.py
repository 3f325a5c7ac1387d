"""TensorRT engines built at the other end of real SSH: the loopback stands for the device, and TensorRT-RTX is real.

It builds ahead of time; there is no GPU, and no engine is run. Stand-ins, named as such, are only what keeps a library
from being there. The `loopback` fixture checks after each test that nothing is left in the device's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.runtime.errors import DeviceError, InputError, NoSpaceError, VerificationError
from pocketformer.runtime.fingerprint import read_fingerprint
from pocketformer.runtime.tensorrt.config import EngineConfig, Profile
from pocketformer.runtime.tensorrt.layers import read_layers, what_is_missing
from pocketformer.runtime.tensorrt.library import Library
from pocketformer.runtime.tensorrt.parser import RejectedGraphError
from pocketformer.targets import file_stream
from pocketformer.targets.remote import RemoteDevice
from pocketformer.targets.remote_build import BuiltThere, build_there, find_builder

ADA = EngineConfig(compute_capabilities=("8.9",), profile=Profile(batch=(1, 2, 4), sequence=(1, 16, 64)))
# Modules for the device's Python that take the place of installed ones.
ABSENT = "raise ModuleNotFoundError('No module named ' + repr(__name__), name=__name__)\n"
# Plays plain TensorRT 10 on an Orin: TensorRT-RTX builds, for its own GPUs; timings are a list of words.
PLAIN = """
import types
import tensorrt_rtx
from pocketformer.targets.agent import engine

__version__ = "10.3.0"
engine.CudaDevice = lambda: types.SimpleNamespace(compute_capability="8.7")
engine.driver_version = lambda: "12.6"


def __getattr__(name):
    if name == "ComputeCapability":
        raise AttributeError(name)
    return getattr(tensorrt_rtx, name)


class Cache:
    def __init__(self, content):
        self.content = bytes(content)

    def serialize(self):
        return self.content + b"timed "


class Settings:
    def __init__(self, real):
        self.__dict__["real"] = real

    def __getattr__(self, name):
        return getattr(self.real, name)

    def __setattr__(self, name, value):
        setattr(self.real, name, value)

    def create_timing_cache(self, content):
        return Cache(content)

    def set_timing_cache(self, cache, ignore_mismatch):
        return True


class Builder:
    def __init__(self, logger):
        self.real = tensorrt_rtx.Builder(logger)

    def __getattr__(self, name):
        return getattr(self.real, name)

    def create_builder_config(self):
        return Settings(self.real.create_builder_config())

    def build_serialized_network(self, network, settings):
        return self.real.build_serialized_network(network, settings.real)
"""


@pytest.fixture(autouse=True)
def _ahead_of_time(library: Library) -> None:
    """Only TensorRT-RTX builds without a GPU."""
    if not library.builds_ahead_of_time:
        pytest.skip(f"{library.name} builds for the GPU of its machine")


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and three products with float weights: enough for a builder, and made without torch."""
    return write_products(tmp_path_factory.mktemp("products") / "model.onnx")


def write_products(path: Path, *, bad: str | None = None, width: int = 64) -> Path:
    """The graph; ``bad`` is an operator that no parser knows, in the place of the last activation."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    constants = {"table": random.normal(size=(50, width))}
    constants |= {f"w{i}": random.normal(size=(width, width)) / 8 for i in range(3)}
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["x0"], name="look-up")]
    for i in range(3):
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"p{i}"], name=f"product{i}"))
        nodes.append(helper.make_node("Tanh", [f"p{i}"], [f"x{i + 1}"], name=f"tanh{i}"))
    nodes[-1].output[0] = "logits"
    if bad is not None:
        nodes[-1].op_type = bad
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "products",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", width])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save_model(model, str(path))
    return path


def build(device: RemoteDevice, graph: Path, folder: Path, config: EngineConfig = ADA) -> BuiltThere:
    folder.mkdir()
    return build_there(device, find_builder(device), graph, folder, config, precision="fp32")


def modules(loopback: Any, folder: Path, **sources: str) -> None:
    """Put these modules before the installed ones of the device's Python."""
    place = folder / "modules"
    place.mkdir()
    for name, source in sources.items():
        (place / f"{name}.py").write_text(source)
    loopback.python_that(f'PYTHONPATH=\'{place}\' exec "$PY" "$@"')


def test_an_engine_is_built_there_and_comes_back(
    loopback: Any, products: Path, library: Library, tmp_path: Path
) -> None:
    with loopback.device() as device:
        builder = find_builder(device)
        assert (builder.library, builder.version) == (library.name, library.version)
        assert "8.9" in builder.compute_capabilities
        built = build(device, products, tmp_path / "here")
        there = Path(device.folder) / "engine"
        assert (there / "model.engine").read_bytes() == built.engine.read_bytes()
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "model.engine",
        "model.engine.json",
        "model.engine.layers.json",
    ]
    assert built.fingerprint == read_fingerprint(built.engine)
    assert built.fingerprint.compute_capabilities == ("8.9",)
    assert built.fingerprint.library_version == library.version
    assert what_is_missing(read_layers(built.engine), "fp32") is None
    assert built.metrics["bytes"] == built.engine.stat().st_size
    assert any("never run" in note for note in built.notes)
    said = [str(event.get("message")) for event in loopback.events if event["event"] == "progress"]
    assert said[0].startswith("asking the parser of")
    assert any(text.startswith("building: ") for text in said[1:])
    assert not [event for event in loopback.events if event["event"] == "data"]


def test_every_node_that_the_parser_there_rejects_is_named(loopback: Any, tmp_path: Path) -> None:
    graph = write_products(tmp_path / "bad.onnx", bad="Frobnicate")
    with loopback.device() as device, pytest.raises(RejectedGraphError, match="Frobnicate") as caught:
        build(device, graph, tmp_path / "here")
    (complaint,) = caught.value.complaints
    assert (complaint.node, complaint.operator) == ("tanh2", "Frobnicate")
    assert complaint.reason
    assert "tanh2 (Frobnicate)" in caught.value.message
    (event,) = (event for event in loopback.events if event["event"] == "rejected")
    assert event["node"] == "tanh2"
    assert list((tmp_path / "here").iterdir()) == []


def test_no_tensorrt_there(loopback: Any, tmp_path: Path) -> None:
    modules(loopback, tmp_path, tensorrt=ABSENT, tensorrt_rtx=ABSENT)
    message = "neither tensorrt nor tensorrt_rtx is installed for this Python there"
    with loopback.device() as device, pytest.raises(DeviceError, match=message) as caught:
        find_builder(device)
    assert caught.value.exit_code == 4
    assert "pip install tensorrt-rtx-cu12" in str(caught.value.hint)


def test_a_library_that_is_broken_there(loopback: Any, tmp_path: Path) -> None:
    broken = "raise OSError('libnvinfer.so.10: cannot open shared object file')\n"
    modules(loopback, tmp_path, tensorrt=broken, tensorrt_rtx=ABSENT)
    with loopback.device() as device, pytest.raises(DeviceError, match=r"libnvinfer\.so\.10") as caught:
        find_builder(device)
    assert caught.value.exit_code == 4


def test_a_tensorrt_of_jetpack_5_there(loopback: Any, tmp_path: Path) -> None:
    modules(loopback, tmp_path, tensorrt="__version__ = '8.5.2.2'\n")
    with loopback.device() as device, pytest.raises(DeviceError, match=r"tensorrt 8\.5\.2\.2") as caught:
        find_builder(device)
    assert caught.value.exit_code == 4
    assert "JetPack 5" in str(caught.value.hint)
    assert "onnxruntime" in str(caught.value.hint)


def test_a_tensorrt_there_that_needs_a_gpu(loopback: Any, tmp_path: Path) -> None:
    modules(loopback, tmp_path, tensorrt="__version__ = '10.3.0'\n")
    with loopback.device() as device:
        if find_builder(device, ["tensorrt_rtx"]).gpu is not None:
            pytest.skip("this machine has a GPU")
        with pytest.raises(DeviceError, match=r"tensorrt 10\.3\.0 there builds for the GPU") as caught:
            find_builder(device)
    assert caught.value.exit_code == 4


def test_timings_travel_with_a_plain_tensorrt(loopback: Any, products: Path, tmp_path: Path) -> None:
    """A stand-in for TensorRT 10 and its GPU: what the host keeps of a device's timings is read and added to there."""
    modules(loopback, tmp_path, tensorrt=PLAIN)
    cache = tmp_path / "kept" / "orin.timings"
    config = EngineConfig(compute_capabilities=("8.7",), profile=ADA.profile, timing_cache=cache)
    with loopback.device() as device:
        builder = find_builder(device)
        assert (builder.library, builder.version, builder.gpu) == ("tensorrt", "10.3.0", "8.7")
        assert (builder.compute_capabilities, builder.driver) == ((), "12.6")
        for run, timings in enumerate((b"timed ", b"timed timed ")):
            here = tmp_path / f"here-{run}"
            here.mkdir()
            built = build_there(
                device, builder, products, here, config, precision="fp32", name=f"engine-{run}"
            )
            assert cache.read_bytes() == timings
            assert "timing.cache" not in [path.name for path in here.iterdir()]
    assert built.fingerprint.compute_capabilities == ("8.7",)


def test_a_gpu_that_the_library_there_does_not_know(loopback: Any, products: Path, tmp_path: Path) -> None:
    orin = EngineConfig(compute_capabilities=("8.7",), profile=ADA.profile)
    with loopback.device() as device, pytest.raises(InputError, match=r"compute capability '8\.7'") as caught:
        build(device, products, tmp_path / "here", orin)
    assert "JetPack's TensorRT" in str(caught.value.hint)


def test_the_link_drops_while_it_builds(loopback: Any, products: Path, tmp_path: Path) -> None:
    def hear(event: dict[str, Any]) -> None:
        if str(event.get("message")).startswith("building: "):
            loopback.server.drop_links()

    loopback.hear = hear
    with loopback.device() as device, pytest.raises(DeviceError, match=r"to .* was lost") as caught:
        build(device, products, tmp_path / "here")
    assert caught.value.exit_code == 4
    assert list((tmp_path / "here").iterdir()) == []


def test_the_disk_there_is_full(loopback: Any, tiny_disk: Any, agent: Path, tmp_path: Path) -> None:
    graph = write_products(tmp_path / "wide.onnx", width=512)
    room = agent.stat().st_size + graph.stat().st_size
    loopback.folder = tiny_disk(str(room + room // 8))  # the agent and the graph, and no engine
    with loopback.device() as device, pytest.raises(DeviceError, match=r"are free|is full") as caught:
        build(device, graph, tmp_path / "here")
    assert caught.value.exit_code == 4
    assert "Free some space on the device" in str(caught.value.hint)
    assert loopback.left() == []


def test_an_engine_that_is_damaged_on_its_way_here(
    loopback: Any, products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = file_stream.base64.b64decode

    def damaged(text: str, validate: bool) -> bytes:
        data = bytearray(whole(text, validate=validate))
        data[-1] ^= 1
        return bytes(data)

    with loopback.device() as device:
        monkeypatch.setattr(file_stream.base64, "b64decode", damaged)
        with pytest.raises(VerificationError, match=r"'model\.engine' was damaged on its way here"):
            build(device, products, tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []


def test_the_disk_here_is_full(
    loopback: Any, products: Path, tiny_disk: Any, tmp_path: Path, agent: Path
) -> None:
    here = tiny_disk("64k") / "here"
    with loopback.device() as device, pytest.raises(NoSpaceError, match="from the device does not fit"):
        build(device, products, here)
    assert list(here.iterdir()) == []


def test_an_engine_of_other_shapes_than_asked_for_is_not_taken(
    loopback: Any, products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the device says, the fingerprint that came back is held against what was asked for."""
    monkeypatch.setattr(Profile, "to_dict", lambda self: {"batch": [9, 9, 9]})
    with loopback.device() as device, pytest.raises(VerificationError, match=r"does not fit: .*profile"):
        build(device, products, tmp_path / "here")
