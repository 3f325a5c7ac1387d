"""What bounds a device's latency, and whether it was foretold, line by line, for all renderings."""

from __future__ import annotations

from dataclasses import dataclass

from pocketformer.report import wording
from pocketformer.report.schema import Device

HEADER = ("Workload", "Measured", "Predicted", "Error", "MACs", "Of the int8 roof", "What bounds it")


@dataclass(frozen=True)
class BoundRow:
    """One workload; every cell is ready to be shown, in the order of ``HEADER``."""

    cells: tuple[str, ...]


def bound_rows(device: Device) -> list[BoundRow]:
    """A row a workload that was predicted or held against the roof; empty when nothing was."""
    prediction, roofline = device.prediction, device.roofline
    foretold = prediction.latency_ms if prediction else {}
    shares = roofline.workloads if roofline else {}
    latency = device.result.latency_ms if device.result else {}
    rows = []
    for workload in wording.workload_order(set(foretold) | set(shares)):
        measured, share = latency.get(workload), shares.get(workload)
        error = prediction.error.get(workload) if prediction else None
        rows.append(
            BoundRow(
                (
                    wording.workload_label(workload),
                    wording.milliseconds(measured.p50 if measured else None),
                    wording.milliseconds(foretold.get(workload)),
                    wording.NOT_MEASURED if error is None else wording.signed(f"{error:+.0%}"),
                    wording.NOT_MEASURED if share is None else _millions(share.macs),
                    wording.NOT_MEASURED if share is None else wording.percent(share.share, 0),
                    wording.NOT_MEASURED if share is None else share.bound_by,
                )
            )
        )
    return rows


def roof_sentence(device: Device) -> str:
    """The roof and what the rows mean; empty without a roof."""
    roof, prediction = device.roofline, device.prediction
    parts = []
    if roof is not None:
        fp32 = "" if roof.fp32_macs_per_s is None else f", {_billions(roof.fp32_macs_per_s)} in fp32"
        memory = (
            ""
            if roof.memory_bytes_per_s is None
            else f"; memory moves {roof.memory_bytes_per_s / 1e9:.0f} GB/s"
        )
        parts.append(
            f"The roof is what onnxruntime multiplies here in a product of {roof.size} cubed: "
            f"{_billions(roof.int8_macs_per_s)} in int8{fp32}{memory}. A share is the multiply-accumulates (MACs) "
            "of a call over its median time, against the roof."
        )
    if prediction is not None:
        parts.append(
            f"Predicted is the sum of the model's blocks in this device's latency table ({prediction.precision}); "
            f"median error {prediction.median_error:.0%}."
        )
    return " ".join(parts)


def _billions(rate: float) -> str:
    return f"{rate / 1e9:,.0f} billion MACs a second"


def _millions(macs: int) -> str:
    return f"{macs / 1e6:,.0f} M" if macs >= 1e7 else f"{macs / 1e6:.1f} M"
