"""Which devices a bench measures: fleet files, addresses and profiles, and what is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pocketformer.pipeline.fleet import FleetDevice, lacking_gpu, load_fleet, places_of, resolve_places
from pocketformer.pipeline.recipe import Recipe
from pocketformer.runtime import providers
from pocketformer.runtime.errors import DeviceError, InputError, RecipeError


def write(folder: Path, *devices: Any, **more: Any) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(yaml.safe_dump({"devices": list(devices), **more}))
    return path


def test_a_fleet_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/numpy-2.0-py3-none-any.whl").touch()
    (tmp_path / "board.yaml").write_text(
        "name: box\ndescription: A box\nreach: ssh://me@box:2222\nthreads: 2\narchitecture: aarch64\n"
    )
    pi = {"name": "pi", "target": "raspberry-pi-5", "address": "ssh://pi@Pi5.local", "emulated": True}
    devices = load_fleet(
        write(
            tmp_path,
            {"target": "cpu"},
            {**pi, "python": "~/venv/bin/python3", "identity": "key", "wheels": "wheels"},
            {"target": "./board.yaml"},
            {"address": "ssh://me@10.0.0.7"},
            {"target": "tensorrt-rtx-sm89"},
            {"name": "orin", "target": "jetson-orin-nano", "address": "ssh://me@Orin"},
        )
    )
    places = resolve_places([], devices)
    assert [(place.name, place.way) for place in places] == [
        ("cpu", "here"),
        ("pi", "ssh"),
        ("box", "ssh"),
        ("10.0.0.7", "ssh"),
        ("tensorrt-rtx-sm89", "engine"),
        ("orin", "engine-there"),
    ]
    assert [place.machine for place in places] == ["", "pi5.local", "box", "10.0.0.7", "", "orin"]
    assert places[1].device.identity == tmp_path / "key"
    assert places[1].device.wheels == tmp_path / "wheels"
    assert places[1].connection()._wheels == tmp_path / "wheels"
    assert places[1].connection(bare=True)._wheels is None
    assert places[1].connection().python == "~/venv/bin/python3"
    assert (places[1].threads, places[2].threads, places[3].threads) == (4, 2, None)
    assert str(places[2].connection().address) == "ssh://me@box:2222"


@pytest.mark.parametrize(
    ("device", "message", "hint"),
    [
        ({"adress": "ssh://me@a"}, r"device 1: unknown key 'adress'", "Did you mean 'address'?"),
        ({"address": "ssh://me@a", "port": 22}, "unknown key 'port'", "ssh://user@host:2222"),
        ({"address": "ssh://me@a", "password": "x"}, "unknown key 'password'", "never used"),
        ({"name": "a", "python": "p"}, r"device 1 \(a\): needs a target or an address", "ssh://"),
        ({"address": "ssh://me@a", "emulated": "perhaps"}, "'emulated' is 'perhaps'", "emulator"),
        ({"address": "ssh://me@a", "power_modes": ["15W"]}, "unknown key 'power_modes'", "'power_mode'"),
        ({"address": "ssh://me@a", "power_mode": "-m 0"}, "'power_mode' is '-m 0'", "in turn"),
        ({"address": "ssh://me@a", "power_mode": True}, "'power_mode' is True", "by name or number"),
        ({"address": "ssh://me@a", "name": "two words"}, "'name' is 'two words'", "one word"),
        ("cpu", "device 1: is 'cpu'", "target: cpu"),
    ],
)
def test_what_is_wrong_in_a_fleet_file_is_named(tmp_path: Path, device: Any, message: str, hint: str) -> None:
    path = write(tmp_path, device)
    with pytest.raises(RecipeError, match=message) as caught:
        load_fleet(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert hint in (caught.value.hint or "")


def test_several_power_modes_are_as_many_places(tmp_path: Path) -> None:
    (tmp_path / "orin.yaml").write_text(
        "name: orin\ndescription: A board\narchitecture: aarch64\npower_modes: [15W, 25W]\n"
    )
    devices = load_fleet(
        write(
            tmp_path,
            {"name": "one", "address": "ssh://me@a", "power_mode": 0},
            {
                "target": "./orin.yaml",
                "address": "ssh://me@b",
                "power_mode": ["15W", 2],
                "jetson_clocks": True,
            },
            {"name": "as-it-is", "address": "ssh://me@c"},
        )
    )
    places = resolve_places([], devices)
    assert [(place.name, place.power_mode) for place in places] == [
        ("one", "0"),
        ("b-15W", "15W"),
        ("b-2", "2"),
        ("as-it-is", None),
    ]
    assert [place.machine for place in places] == ["a", "b", "b", "c"], "one machine takes its modes in turn"
    assert [place.device.jetson_clocks for place in places] == [False, True, True, False]


def test_files_that_are_no_fleet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such fleet file"):
        load_fleet(tmp_path / "none.yaml")
    for content, message in [
        ("- cpu", "is not a fleet file"),
        ("devices: []", "names no device"),
        ("devices: [{target: cpu}]\nsecrets: 1", "unknown key 'secrets'"),
        ("devices: [", "is not YAML"),
    ]:
        (tmp_path / "fleet.yaml").write_text(content)
        with pytest.raises(RecipeError, match=message):
            load_fleet(tmp_path / "fleet.yaml")


@pytest.mark.parametrize(
    ("targets", "devices", "error", "message"),
    [
        (["ssh://me@a", "ssh://you@a"], [], RecipeError, "two devices are called 'a'"),
        (["raspberry-pi-5"], [], DeviceError, "nothing says at which address"),
        (["jetson-orin-nano"], [], DeviceError, "its engine is tensorrt"),
        (["ssh://me:secret@a"], [], InputError, "holds a password"),
        (["cpus"], [], InputError, "there is no target 'cpus'"),
        (
            ["a"],
            [FleetDevice(name="a", address="ssh://me@a", identity=Path("/no/key"))],
            InputError,
            "no key file",
        ),
        (["cpu"], [FleetDevice(name="x", target="cpu")], RecipeError, "'cpu' and 'x' are both this machine"),
        (["x"], [FleetDevice(name="x", target="cpu", gpu=1)], RecipeError, "is no GPU of this machine"),
        (["x"], [FleetDevice(name="x", target="gpu", emulated=True)], DeviceError, "has no address"),
        (
            ["x"],
            [FleetDevice(name="x", target="gpu", address="ssh://me@a")],
            DeviceError,
            "a GPU is measured on the machine that runs this",
        ),
        (["x"], [FleetDevice(name="x", target="cpu", emulated=True)], DeviceError, "has no address"),
        (
            ["j"],
            [FleetDevice(name="j", target="browser", address="ssh://me@a")],
            DeviceError,
            "its engine is onnxruntime-web",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    targets: list[str], devices: list[FleetDevice], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        resolve_places(targets, devices)
    assert "secret" not in str(caught.value)


def test_gpus_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = {"name": "second", "target": "gpu", "gpu": 1, "cuda_graph": True}
    devices = load_fleet(write(tmp_path, {"target": "cpu"}, {"target": "gpu"}, second))
    places = resolve_places([], devices)
    assert [(place.name, place.way, place.machine, place.device.gpu) for place in places] == [
        ("cpu", "here", "", 0),
        ("gpu", "gpu", "", 0),
        ("second", "gpu", "", 1),
    ]
    monkeypatch.setattr(providers, "DRIVER_LIBRARY", "libno-such-driver.so.1")
    lacking = lacking_gpu(places)
    assert list(lacking) == ["gpu", "second"]
    assert any("no NVIDIA driver" in reason for reason in lacking["gpu"])


def test_a_recipe_keeps_its_devices(tmp_path: Path) -> None:
    device = {
        "name": "board",
        "address": "ssh://me@board",
        "python": "/opt/python3",
        "power_mode": ["15W", "1"],
    }
    recipe = Recipe.from_mapping(
        {"model": tmp_path, "targets": ["cpu", "board"], "steps": [{"bench": {"devices": [device]}}]}
    )
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    again = Recipe.from_file(tmp_path / "recipe.yaml")
    assert again == recipe
    assert [(place.name, place.device.python) for place in places_of(again)] == [
        ("cpu", "python3"),
        ("board-15W", "/opt/python3"),
        ("board-1", "/opt/python3"),
    ]
    with pytest.raises(RecipeError, match=r"steps: bench.*devices"):
        Recipe.from_mapping({"model": tmp_path, "steps": [{"bench": {"devices": [{"adress": "x"}]}}]})
