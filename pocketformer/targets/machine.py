"""This machine as a whole: its processor, and the NVIDIA GPUs in it. The agent tells of processors alone."""

from __future__ import annotations

from typing import Any

from pocketformer.targets.nvml import find_gpus
from pocketformer.targets.probe import probe


def probe_machine(bindings: Any = None) -> dict[str, Any]:
    """``probe``, then ``gpus``, each as ``probe_gpu`` has it, and ``no_gpu``, which says why there is none.

    ``no_gpu`` is None where there is one. ``bindings`` as in ``open_nvml``.
    """
    gpus, reason = find_gpus(bindings)
    return {**probe(), "gpus": gpus, "no_gpu": reason}
