"""What this version can do with a target: measure it here or over SSH, build for it, or nothing yet.

A bundle runs in onnxruntime: on a processor, this machine's or that of a device over SSH, and on an NVIDIA GPU of this
machine. A device over SSH whose engine is TensorRT builds it there, and measures it where it has the GPU. For a GPU
that TensorRT-RTX knows an engine is built here, which nothing here runs. Anything else in a profile says what a device
is; until there is code that measures there, a run must not take its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocketformer.runtime.errors import DeviceError
from pocketformer.targets.probe import machine_architecture

if TYPE_CHECKING:
    from pocketformer.targets.profile import TargetProfile

MEASURED_HERE = "measured here"
ON_GPU = "with a GPU here"
OVER_SSH = "measured over SSH"
BUILT_HERE = "built, never run"
BUILT_THERE = "built over SSH"
NOT_YET = "not yet"


def what_is_missing(profile: TargetProfile) -> str | None:
    """Why this version can do nothing with the target, as the end of a sentence; None when it can.

    What this machine lacks for the target of a GPU is asked of ``missing_for_gpu``.
    """
    if _is_built(profile) or _is_built_there(profile):
        return None
    if profile.runtime != "onnxruntime":
        return f"its engine is {profile.runtime}" + _no_driver(profile)
    on_gpu = _on_gpu(profile)
    others = [name for name in profile.providers if name != "CPUExecutionProvider"]
    if others and not on_gpu:
        return f"it uses {others[0]}"
    if on_gpu and profile.reach != "local":
        return f"it uses {others[0]}, and a GPU is measured on the machine that runs this"
    if profile.reach == "emulated":
        return "nothing says at which address it, or an emulator of it, is reached"
    here = machine_architecture()
    if profile.reach == "local" and profile.architecture not in ("any", here):
        return f"its processor is {profile.architecture} and this machine's is {here}"
    return None


def missing_for_gpu(profile: TargetProfile) -> tuple[str, ...]:
    """What this machine is seen to lack for the target of a GPU, each as the end of a sentence.

    Empty for any other target. Whether CUDA's own libraries load is found out only by measuring.
    """
    if not _on_gpu(profile):
        return ()
    from pocketformer.runtime.providers import what_is_missing as lacking
    from pocketformer.targets.nvml import bindings_missing

    reasons = [reason for name in profile.providers for reason in lacking(name)]
    return tuple(dict.fromkeys([*reasons, *bindings_missing()]))


def require_gpu(profile: TargetProfile) -> None:
    """``DeviceError`` that names all of ``missing_for_gpu``."""
    reasons = missing_for_gpu(profile)
    if reasons:
        raise DeviceError(
            f"target {profile.name!r} cannot be measured on this machine: {'; '.join(reasons)}",
            hint="It needs an NVIDIA GPU and its driver, onnxruntime-gpu in place of onnxruntime, and nvidia-ml-py: "
            "see docs/gpu.md; `pocketformer doctor` lists what is here.",
        )


def support(profile: TargetProfile) -> str:
    """``MEASURED_HERE``, ``ON_GPU``, ``OVER_SSH``, ``BUILT_HERE``, ``BUILT_THERE`` or ``NOT_YET``."""
    if what_is_missing(profile) is not None:
        return NOT_YET
    if _is_built_there(profile):
        return BUILT_THERE
    if _is_built(profile):
        return BUILT_HERE
    if _on_gpu(profile):
        return ON_GPU
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


def _on_gpu(profile: TargetProfile) -> bool:
    """Whether its providers are those of an NVIDIA GPU, with or without the CPU's after them."""
    if profile.runtime != "onnxruntime" or profile.providers == ("CPUExecutionProvider",):
        return False
    from pocketformer.runtime.providers import SHORT_NAMES

    return set(profile.providers) <= set(SHORT_NAMES.values())


def _is_built_there(profile: TargetProfile) -> bool:
    return profile.runtime in ("tensorrt", "tensorrt-rtx") and profile.reach.startswith("ssh://")


def _no_driver(profile: TargetProfile) -> str:
    """For an NVIDIA GPU that should be in this machine: that its driver is not."""
    here = profile.reach == "local" and profile.architecture in ("any", machine_architecture())
    if profile.runtime != "tensorrt" or not here:
        return ""
    from pocketformer.runtime.providers import driver_missing

    return "".join(f", and {reason}" for reason in driver_missing())


def _hint(profile: TargetProfile) -> str:
    if _on_gpu(profile):
        return "Run pocketformer on that machine, with `--target gpu`. Over SSH a device's processor is measured."
    if profile.runtime == "onnxruntime" and profile.reach == "emulated":
        return "Copy the profile and give it a reach of ssh://user@host, or name its address in a fleet file."
    if profile.runtime == "tensorrt":
        return (
            "Its engine is built where it is: name its address in a fleet file, or copy the profile and give it a "
            "reach of ssh://user@host. --target ssh://user@host alone measures onnxruntime on its processor."
        )
    return "This machine's own processor is --target cpu. See `pocketformer targets list`."
