"""What this version can do with a target: measure it here or over SSH, build for it, or nothing yet.

A bundle runs in onnxruntime on a processor: this machine's, or that of a device over SSH. A device over SSH whose
engine is TensorRT builds it there, and measures it where it has the GPU. For a GPU that TensorRT-RTX knows an engine is
built here, which nothing here runs. Anything else in a profile says what a device is;
until there is code that measures there, a run must not take its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocketformer.runtime.errors import DeviceError
from pocketformer.targets.probe import machine_architecture

if TYPE_CHECKING:
    from pocketformer.targets.profile import TargetProfile

MEASURED_HERE = "measured here"
OVER_SSH = "measured over SSH"
BUILT_HERE = "built, never run"
BUILT_THERE = "built over SSH"
NOT_YET = "not yet"


def what_is_missing(profile: TargetProfile) -> str | None:
    """Why this version can do nothing with the target, as the end of a sentence; None when it can."""
    if _is_built(profile) or _is_built_there(profile):
        return None
    if profile.runtime != "onnxruntime":
        return f"its engine is {profile.runtime}" + _no_driver(profile)
    others = [name for name in profile.providers if name != "CPUExecutionProvider"]
    if others:
        return f"it uses {others[0]}" + _no_driver(profile)
    if profile.reach == "emulated":
        return "nothing says at which address it, or an emulator of it, is reached"
    here = machine_architecture()
    if profile.reach == "local" and profile.architecture not in ("any", here):
        return f"its processor is {profile.architecture} and this machine's is {here}"
    return None


def support(profile: TargetProfile) -> str:
    """``MEASURED_HERE``, ``OVER_SSH``, ``BUILT_HERE``, ``BUILT_THERE`` or ``NOT_YET``."""
    if what_is_missing(profile) is not None:
        return NOT_YET
    if _is_built_there(profile):
        return BUILT_THERE
    if _is_built(profile):
        return BUILT_HERE
    return MEASURED_HERE if profile.reach == "local" else OVER_SSH


def require_usable(profile: TargetProfile) -> str:
    """``support`` of the target; ``DeviceError`` when it is ``NOT_YET``."""
    reason = what_is_missing(profile)
    if reason is not None:
        raise DeviceError(f"target {profile.name!r} cannot be measured: {reason}", hint=_hint(profile))
    return support(profile)


def _is_built(profile: TargetProfile) -> bool:
    known = profile.compute_capability is not None and profile.reach == "local"
    return profile.runtime == "tensorrt-rtx" and known


def _is_built_there(profile: TargetProfile) -> bool:
    return profile.runtime in ("tensorrt", "tensorrt-rtx") and profile.reach.startswith("ssh://")


def _no_driver(profile: TargetProfile) -> str:
    """For an NVIDIA GPU that should be in this machine: that its driver is not."""
    from pocketformer.runtime.providers import CUDA_PROVIDER, TENSORRT_PROVIDER, driver_missing

    nvidia = profile.runtime == "tensorrt" or {CUDA_PROVIDER, TENSORRT_PROVIDER} & set(profile.providers)
    here = profile.reach == "local" and profile.architecture in ("any", machine_architecture())
    reasons = driver_missing() if nvidia and here else ()
    return "".join(f", and {reason}" for reason in reasons)


def _hint(profile: TargetProfile) -> str:
    if profile.runtime == "onnxruntime" and profile.reach == "emulated":
        return "Copy the profile and give it a reach of ssh://user@host, or name its address in a fleet file."
    if profile.runtime == "tensorrt":
        return (
            "Its engine is built where it is: name its address in a fleet file, or copy the profile and give it a "
            "reach of ssh://user@host. --target ssh://user@host alone measures onnxruntime on its processor."
        )
    return "This machine's own processor is --target cpu. See `pocketformer targets list`."
