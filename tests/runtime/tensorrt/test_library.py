from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from pocketformer.runtime.errors import InputError, MissingDependencyError
from pocketformer.runtime.tensorrt.library import Library, load_library


def only(monkeypatch: pytest.MonkeyPatch, **modules: Any) -> None:
    """Let exactly these modules be importable; an exception stands for an import that fails."""

    def import_module(name: str) -> Any:
        found = modules.get(name, ModuleNotFoundError(f"No module named {name!r}", name=name))
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_without_either_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    with pytest.raises(MissingDependencyError) as caught:
        load_library()
    assert caught.value.exit_code == 4
    assert caught.value.message == "neither tensorrt nor tensorrt_rtx is installed"
    assert "pocketformer[tensorrt-rtx]" in str(caught.value.hint)


def test_a_broken_installation_is_told_and_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = OSError("libnvinfer.so.10: cannot open shared object file")
    only(monkeypatch, tensorrt=broken)
    with pytest.raises(MissingDependencyError, match=r"tensorrt cannot be imported: libnvinfer\.so\.10"):
        load_library()
    only(monkeypatch, tensorrt=broken, tensorrt_rtx=SimpleNamespace(__version__="1.7.1"))
    assert load_library().name == "tensorrt_rtx"


def test_plain_tensorrt_comes_first_and_builds_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {
        "tensorrt": SimpleNamespace(__version__="10.3.0"),
        "tensorrt_rtx": SimpleNamespace(__version__="1"),
    }
    only(monkeypatch, **modules)
    library = load_library()
    assert (library.name, library.version) == ("tensorrt", "10.3.0")
    assert not library.builds_ahead_of_time
    assert library.compute_capabilities == ()


def test_a_network_is_strongly_typed_where_that_must_be_asked_for() -> None:
    flags: list[int] = []
    builder = SimpleNamespace(create_network=flags.append)
    for members in ({"STRONGLY_TYPED": 1}, {}):
        module = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(**members))
        Library(module=module, name="tensorrt", version="10").network(builder)
    assert flags == [2, 0]


def test_the_installed_library_knows_its_gpus(library: Library) -> None:
    if not library.builds_ahead_of_time:
        pytest.skip(f"{library.name} builds for the GPU of this machine only")
    assert {"8.0", "8.6", "8.9", "12.0"} <= set(library.compute_capabilities)
    assert library.compute_capability("8.9") == library.module.ComputeCapability.SM89
    with pytest.raises(InputError, match=r"cannot build for compute capability '8\.7'") as caught:
        library.compute_capability("8.7")
    assert "Jetson Orin" in str(caught.value.hint)
    with pytest.raises(InputError, match="'ada'"):
        library.compute_capability("ada")
