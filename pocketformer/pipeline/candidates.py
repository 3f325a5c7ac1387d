"""Which candidates of the quantizers a run measures, and why it leaves out the others: what its targets can take."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import util
from typing import TYPE_CHECKING

from pocketformer.compress.quantize.candidates import (
    OPENVINO_CANDIDATES,
    USUAL_CANDIDATES,
    Candidate,
    candidate_by_name,
)
from pocketformer.compress.quantize.config import NncfConfig
from pocketformer.pipeline.choice import Tried
from pocketformer.runtime.errors import MissingDependencyError, RecipeError
from pocketformer.runtime.manifest import OPENVINO

if TYPE_CHECKING:
    from pocketformer.pipeline.fleet import Place

_INSTALL = 'pip install "pocketformer[nncf]"'


def candidates_of(
    names: Sequence[str], places: Sequence[Place], *, saturates: bool
) -> tuple[list[Candidate], list[Tried]]:
    """The candidates to make, and those left out with the reason.

    ``names`` are the recipe's; the usual ones have those for OpenVINO beside them where every place that the bundle
    runs at takes OpenVINO and it is installed. ``saturates``: products of 8-bit weights overflow on this processor, and
    unlike onnxruntime OpenVINO cannot be asked whether a graph's answers suffer, so that 7-bit weights stand in.
    """
    wanted = [candidate_by_name(name) for name in names]
    if tuple(names) == USUAL_CANDIDATES:
        wanted += [
            candidate
            for candidate in map(candidate_by_name, OPENVINO_CANDIDATES)
            if not _missing(candidate)
            and not _refused(candidate, places)
            and (candidate.config is None or candidate.reduced == saturates)
        ]
    left = [
        Tried(name=candidate.name, precision=candidate.precision, reason=reason)
        for candidate in wanted
        if (reason := _unfit(candidate, places))
    ]
    out = {tried.name for tried in left}
    return [candidate for candidate in wanted if candidate.name not in out], left


def require_candidates(names: Sequence[str], places: Sequence[Place], *, onnx: bool = False) -> None:
    """Refuse before a run what it could not make: ``InputError`` for a name that there is not,

    ``MissingDependencyError`` for one whose package is missing, ``RecipeError`` when the targets take none of them, or
    with ``onnx`` when one is no ONNX file.
    """
    wanted = [candidate_by_name(name) for name in names]
    for candidate in wanted:
        missing = _missing(candidate)
        if onnx and candidate.suffix != ".onnx":
            raise RecipeError(
                f"a search is judged by onnxruntime, and {candidate.name} runs in {candidate.engine}",
                hint="Name it under quantize: what ships is chosen there.",
            )
        if missing:
            raise MissingDependencyError(f"{candidate.name} needs {missing}", hint=f"Install it: {_INSTALL}.")
    reasons = [_unfit(candidate, places) for candidate in wanted]
    if all(reasons):
        raise RecipeError(
            f"no candidate is left for the targets: {wanted[0].name}: {reasons[0]}",
            hint="Name others under quantize: candidates, or change the target's profile.",
        )


def _unfit(candidate: Candidate, places: Sequence[Place]) -> str:
    return _refused(candidate, places) or _precision_unnamed(candidate, places)


def _precision_unnamed(candidate: Candidate, places: Sequence[Place]) -> str:
    """Which target's profile does not name the precision that the candidate computes in; empty: all do."""
    family = candidate.precision.split("-", 1)[0]
    for place in _runs_at(places):
        if place.profile is not None and family not in place.profile.precisions:
            named = ", ".join(place.profile.precisions)
            return f"target {place.name!r} takes {named}, and this one computes in {family}"
    return ""


def _refused(candidate: Candidate, places: Sequence[Place]) -> str:
    """Why the bundle could not run in the candidate's engine on some target; empty: it can on all."""
    if candidate.engine != OPENVINO:
        return ""
    from pocketformer.targets.probe import machine_architecture

    for place in _runs_at(places):
        if place.way != "here" or place.profile is None or OPENVINO not in place.profile.other_runtimes:
            return f"target {place.name!r} does not name openvino among its other_runtimes"
    here = machine_architecture()
    return "" if here == "x86_64" else f"OpenVINO is tried on x86_64 alone, and this machine is {here}"


def _runs_at(places: Sequence[Place]) -> list[Place]:
    """The places where the run's bundle itself runs; for the others engines are built."""
    return [place for place in places if place.way in ("here", "gpu", "ssh")]


def _missing(candidate: Candidate) -> str:
    """The package that the candidate needs and that is not installed; empty: nothing is missing."""
    if candidate.engine != OPENVINO:
        return ""
    needed = ("openvino", "nncf") if isinstance(candidate.config, NncfConfig) else ("openvino",)
    return next((name for name in needed if util.find_spec(name) is None), "")
