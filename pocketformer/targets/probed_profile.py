"""A target profile filled from what probing told; what it did not tell stays open for the user to write in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pocketformer.runtime.errors import DeviceError
from pocketformer.targets.profile import TargetProfile

_LONGEST_NAME = 40


def profile_of(facts: Mapping[str, Any], *, reach: str = "local") -> TargetProfile:
    """The profile of a machine by its ``facts``: of ``probe_machine``, or of a device's agent when ``reach`` is SSH.

    ``DeviceError`` for a processor that no profile can name.
    """
    architecture = str(facts["architecture"])
    if architecture not in ("x86_64", "aarch64"):
        raise DeviceError(
            f"a profile names x86_64 or aarch64, and this is {architecture}",
            hint="It can be measured all the same: name its address.",
        )
    board = facts.get("board") or facts["model"]
    flags = [name for name, there in facts["flags"].items() if there]
    version = re.match(r"\d+(\.\d+)*", str((facts.get("packages") or {}).get("onnxruntime") or ""))
    memory = facts.get("memory_bytes")
    return TargetProfile(
        name=_slug(str(board)),
        description=f"{board} ({architecture}), {facts['threads']} cores, {', '.join(flags) or 'no SIMD known'}",
        architecture=architecture,  # type: ignore[arg-type]
        runtime_version=version[0] if version else None,
        memory_mb=int(memory / 1e6) if memory else None,
        reach="emulated" if facts.get("emulator") and reach == "local" else reach,
    )


def profile_of_gpu(facts: Mapping[str, Any]) -> TargetProfile:
    """The profile of one NVIDIA GPU of this machine by what ``probe_gpu`` told of it."""
    memory = facts.get("memory_bytes")
    return TargetProfile(
        name=_slug(str(facts["name"])),
        description=f"{facts['name']}, through onnxruntime's CUDA provider",
        providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
        precisions=("fp32", "fp16", "int8"),
        compute_capability=facts.get("compute_capability"),
        memory_mb=int(memory / 1e6) if memory else None,
    )


def _slug(text: str) -> str:
    """A name as profiles have it: of a-z, 0-9 and dashes."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return words[:_LONGEST_NAME].rstrip("-") or "device"
