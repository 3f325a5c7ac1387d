"""What a target's profile says decides which candidates are measured, and the others are left out with that reason."""

from __future__ import annotations

from importlib import util
from typing import Any

import pytest

from pocketformer.compress.quantize.candidates import OPENVINO_CANDIDATES, USUAL_CANDIDATES
from pocketformer.pipeline import candidates
from pocketformer.pipeline.candidates import candidates_of, require_candidates
from pocketformer.pipeline.fleet import FleetDevice, Place, Way
from pocketformer.runtime.errors import InputError, MissingDependencyError, RecipeError
from pocketformer.targets import probe
from pocketformer.targets.profile import TargetProfile, find_target


def _place(way: Way = "here", **values: Any) -> Place:
    profile = TargetProfile.model_validate({"name": "box", "description": "a box", **values})
    return Place(name="box", way=way, device=FleetDevice(target="cpu"), profile=profile)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Plays which packages are there, on a machine that is x86."""
    there = {"openvino", "nncf"}
    monkeypatch.setattr(util, "find_spec", lambda name: object() if name in there else None)
    monkeypatch.setattr(probe, "machine_architecture", lambda: "x86_64")
    return there


def _names(found: list[Any]) -> list[str]:
    return [item.name for item in found]


def test_a_precision_that_the_target_does_not_name_is_left_out() -> None:
    wanted, left = candidates_of(USUAL_CANDIDATES, [_place(precisions=["fp32"])], saturates=False)
    assert _names(wanted) == ["fp32-fused"]
    assert _names(left) == [name for name in USUAL_CANDIDATES if name != "fp32-fused"]
    assert left[0].reason == "target 'box' takes fp32, and this one computes in int8"
    assert all(tried.path is None for tried in left)
    # Stored in 8 bits, computed in float32.
    names = ["fp32-fused-embeddings-int8"]
    assert _names(candidates_of(names, [_place(precisions=["fp32"])], saturates=False)[0]) == names
    # An engine is built for that place: the bundle never runs there.
    there = _place("engine", runtime="tensorrt-rtx", precisions=["fp16"])
    assert candidates_of(("dynamic-fused",), [_place(), there], saturates=False)[1] == []
    assert _names(candidates_of(("dynamic-fused",), [_place(precisions=["int8"])], saturates=False)[0])


def test_a_run_without_any_candidate_is_refused_before_it_begins() -> None:
    with pytest.raises(RecipeError, match="takes fp16, and this one computes in"):
        require_candidates(USUAL_CANDIDATES, [_place(precisions=["fp16"])])
    with pytest.raises(InputError, match="dynamic-fusd"):
        require_candidates(["dynamic-fusd"], [_place()])
    require_candidates(USUAL_CANDIDATES, [_place(precisions=["int8"])])


def test_openvino_is_tried_where_it_is_installed_and_the_target_takes_it(installed: set[str]) -> None:
    cpu = Place(name="cpu", way="here", device=FleetDevice(target="cpu"), profile=find_target("cpu"))

    def extra(places: list[Place], *, saturates: bool = False) -> list[str]:
        wanted, left = candidates_of(USUAL_CANDIDATES, places, saturates=saturates)
        assert left == []
        return _names(wanted)[len(USUAL_CANDIDATES) :]

    assert extra([cpu]) == ["openvino-fp32", "openvino-static", "openvino-nncf"]
    # Whether 8-bit products overflow cannot be asked of OpenVINO.
    assert extra([cpu], saturates=True) == [
        "openvino-fp32",
        "openvino-static-reduced",
        "openvino-nncf-reduced",
    ]
    assert extra([_place()]) == []
    assert extra([cpu, _place("ssh")]) == []
    assert extra([cpu, _place("engine", runtime="tensorrt-rtx")]) != []
    installed.remove("nncf")
    assert extra([cpu]) == ["openvino-fp32", "openvino-static"]
    installed.clear()
    assert extra([cpu]) == []


def test_openvino_asked_for_by_name(installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    takes = [_place(other_runtimes=["openvino"])]
    names = ("dynamic-fused", "openvino-nncf")
    assert _names(candidates_of(names, takes, saturates=True)[0]) == list(names)
    left = candidates_of(names, [_place()], saturates=False)[1]
    assert left[0].reason == "target 'box' does not name openvino among its other_runtimes"
    monkeypatch.setattr(probe, "machine_architecture", lambda: "aarch64")
    assert "aarch64" in candidates_of(names, takes, saturates=False)[1][0].reason
    installed.remove("nncf")
    with pytest.raises(MissingDependencyError, match="openvino-nncf needs nncf") as caught:
        require_candidates(names, takes)
    assert caught.value.exit_code == 4
    require_candidates(("dynamic-fused", "openvino-static"), takes)


def test_every_candidate_for_openvino_is_there_to_be_named() -> None:
    assert len(OPENVINO_CANDIDATES) == 5
    assert not set(OPENVINO_CANDIDATES) & set(USUAL_CANDIDATES)
    assert candidates.candidate_by_name(OPENVINO_CANDIDATES[0]).suffix == ".xml"
