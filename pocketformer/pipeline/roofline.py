"""A result's share of what this machine can multiply: product graphs from export, peaks and profiles from targets."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.targets.roofline import SIZE, Peaks, bound_by, measure_peaks, share_of_peak

if TYPE_CHECKING:
    from pocketformer.runtime.manifest import SessionSettings
    from pocketformer.targets.workloads import Feeds


def peaks(settings: SessionSettings, *, size: int = SIZE) -> Peaks:
    """The roof of this machine with ``settings``: products of ``size`` cubed in int8 and fp32, and its memory."""
    from pocketformer.export.product_graph import write_product

    with tempfile.TemporaryDirectory(prefix="pocketformer-roofline-") as folder:
        products = {
            "int8": write_product(Path(folder) / "int8.onnx", inner=size, columns=size, precision="int8"),
            "fp32": write_product(Path(folder) / "fp32.onnx", inner=size, columns=size, precision="fp32"),
        }
        return measure_peaks(products, settings, size=size)


def roofline(
    graph: Path,
    settings: SessionSettings,
    feeds: Mapping[str, Feeds],
    p50_ms: Mapping[str, float],
    *,
    roof: Peaks | None = None,
) -> dict[str, Any]:
    """The ``roofline`` of report.json for the ONNX file ``graph``.

    ``feeds`` and the median latencies ``p50_ms`` are by workload; ``roof`` None: it is measured now.
    """
    from pocketformer.targets.operator_profile import profile_operators

    roof = peaks(settings) if roof is None else roof
    workloads = {}
    for name, one in feeds.items():
        share = share_of_peak(profile_operators(graph, settings, one), p50_ms[name], roof)
        workloads[name] = {
            "macs": share.macs,
            "macs_per_s": share.macs_per_s,
            "share": share.share,
            "product_share": share.product_share,
            "time": dict(share.time),
            "bound_by": bound_by(share),
        }
    return {
        "int8_macs_per_s": roof.macs_per_s["int8"],
        "fp32_macs_per_s": roof.macs_per_s.get("fp32"),
        "memory_bytes_per_s": roof.memory_bytes_per_s,
        "size": roof.size,
        "workloads": workloads,
    }
