"""What this version can do with a target: measure it here, or not yet.

A run builds its bundle for onnxruntime and times it on the processor that it runs on. Anything else in a
profile says what a device is; until there is code that measures there, a run must not take its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocketformer.runtime.errors import DeviceError
from pocketformer.targets.probe import machine_architecture

if TYPE_CHECKING:
    from pocketformer.targets.profile import TargetProfile

MEASURED_HERE = "measured here"
NOT_YET = "not yet"


def what_is_missing(profile: TargetProfile) -> str | None:
    """Why this version cannot measure the target, as the end of a sentence; None when it can."""
    if profile.reach.startswith("ssh://"):
        return f"it is reached over SSH ({profile.reach})"
    if profile.reach == "emulated":
        return "it is only emulated, and an emulator tells no latency"
    if profile.runtime != "onnxruntime":
        return f"its engine is {profile.runtime}"
    others = [name for name in profile.providers if name != "CPUExecutionProvider"]
    if others:
        return f"it uses {others[0]}"
    here = machine_architecture()
    if profile.architecture not in ("any", here):
        return f"its processor is {profile.architecture} and this machine's is {here}"
    return None


def support(profile: TargetProfile) -> str:
    """``MEASURED_HERE`` or ``NOT_YET``."""
    return MEASURED_HERE if what_is_missing(profile) is None else NOT_YET


def require_measurable(profile: TargetProfile) -> None:
    """``DeviceError`` for a target that this version can neither build for nor measure."""
    reason = what_is_missing(profile)
    if reason is not None:
        raise DeviceError(
            f"target {profile.name!r} cannot be measured by this version: {reason}",
            hint="What works is this machine's own processor: --target cpu. See `pocketformer targets list`.",
        )
