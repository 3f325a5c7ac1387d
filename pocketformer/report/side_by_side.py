"""Devices side by side, one row each: what HTML, Markdown and terminal show before any detail."""

from __future__ import annotations

from dataclasses import dataclass

from pocketformer.report import wording
from pocketformer.report.gpu_facts import ran_where
from pocketformer.report.schema import Device, DeviceStatus, EngineInfo, Report, Result

NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and small below it; ``span``: over how many columns."""

    value: str = NOTHING
    detail: str = ""
    span: int = 1


@dataclass(frozen=True)
class DeviceRow:
    """One device; ``remarks`` are what it warned of, or what to do about its failure."""

    name: str
    hardware: str
    status: DeviceStatus
    cells: tuple[Cell, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class SideBySide:
    """The header of the columns after the device's name, a row a device, and what the marks mean."""

    header: tuple[str, ...]
    rows: tuple[DeviceRow, ...]
    legend: tuple[str, ...]


def side_by_side(report: Report) -> SideBySide | None:
    """All devices of a report; None for one device that was measured beside its teacher: its own section says all."""
    devices = report.devices
    alone = len(devices) == 1 and devices[0].status == "measured" and bool(devices[0].speedup)
    if not devices or alone:
        return None
    with_energy = any(device.energy for device in devices)
    with_modes = any(device.power is not None and device.power.mode for device in devices)
    modes = ["Mode"] if with_modes else []
    times = ["p50", "Rows/s", "Memory", *(["Energy"] if with_energy else [])]
    header = (wording.capitalised(wording.metric_label(report)), "Drop", *modes, *times, "Size", "Runs in")
    rows = [
        _row(device, with_energy=with_energy, with_modes=with_modes, width=len(header)) for device in devices
    ]
    return SideBySide(
        header=header,
        rows=tuple(rows),
        legend=tuple(_legend(devices)),
    )


def _row(device: Device, *, with_energy: bool, with_modes: bool, width: int) -> DeviceRow:
    result = device.result
    times = 4 if with_energy else 3
    if device.status == "failed":
        cells = [Cell(device.error or "failed", device.hint or "", span=width)]
    elif device.status == "built" and device.engine is not None:
        engine = device.engine
        cells = [
            Cell("never run", span=2 + with_modes + times),
            Cell(wording.megabytes(engine.file_mb), f"engine, {engine.precision}"),
            Cell(engine.library, _layers(engine)),
        ]
    else:
        speed = _speed(device, with_energy=with_energy)
        if device.status == "emulated":
            speed = [Cell("no speed", "emulated", span=times)]
        modes = [_mode(device)] if with_modes else []
        cells = [*_answers(result), *modes, *speed, Cell(_size(result)), _runs_in(device)]
    return DeviceRow(
        name=device.name,
        hardware=device.hardware or "",
        status=device.status,
        cells=tuple(cells),
        remarks=tuple(device.warnings),
    )


def _answers(result: Result | None) -> list[Cell]:
    if result is None:
        return [Cell(), Cell()]
    flips = "" if result.flips is None else wording.counted(result.flips, "flip")
    interval = "" if result.drop_ci95 is None else wording.interval(result.drop_ci95, as_points=True)
    metric = Cell()
    if result.metric is not None:
        metric = Cell(wording.percent(result.metric), _interval(result))
    drop = Cell()
    if result.drop is not None:
        drop = Cell(
            wording.points_in_words(result.drop), "; ".join(part for part in (interval, flips) if part)
        )
    return [metric, drop]


def _interval(result: Result) -> str:
    return "" if result.metric_ci95 is None else wording.interval(result.metric_ci95)


def _speed(device: Device, *, with_energy: bool) -> list[Cell]:
    result = device.result
    timed = result.latency_ms.get("real") if result else None
    rate = result.samples_per_s.get("real") if result else None
    memory = result.peak_memory_mb if result else None
    cells = [Cell(), Cell(), Cell()]
    if timed is not None:
        rest = f"{wording.three_digits(timed.p90)} · {wording.three_digits(timed.p99)}"
        cells[0] = Cell(wording.milliseconds(timed.p50), rest)
    if rate is not None:
        cells[1] = Cell(f"{rate:,.0f}")
    if memory is not None:
        cells[2] = Cell(wording.megabytes(memory))
    if with_energy:
        energy = device.energy
        watts = "" if energy is None else f"at {energy.mean_mw / 1000:.1f} W"
        cells.append(Cell() if energy is None else Cell(wording.millijoules(energy.per_inference_mj), watts))
    return cells


def _mode(device: Device) -> Cell:
    """The power mode that it was measured in; small below, what it was before if it was changed, and is again."""
    power = device.power
    if power is None or not power.mode:
        return Cell()
    details = []
    if power.change is not None and not power.change.restored:
        details.append("not put back" if power.change.restored is False else "put back?")
    elif power.change is not None and power.change.before.mode != power.mode:
        details.append(f"was {power.change.before.mode}")
    if power.clocks_locked:
        details.append("locked")
    return Cell(power.mode, ", ".join(details))


def _size(result: Result | None) -> str:
    return NOTHING if result is None or result.file_mb is None else wording.megabytes(result.file_mb)


def _layers(engine: EngineInfo) -> str:
    counted = [f"{n} {p}" for p, n in engine.layers.items() if p != "all" and n]
    return f"{wording.counted(engine.layers['all'], 'layer')}: {', '.join(counted)}" if counted else ""


def _runs_in(device: Device) -> Cell:
    version = device.versions.get("onnxruntime")
    parts = []
    if device.engine is not None:
        parts.append(f"{device.engine.precision}, {_layers(device.engine)}")
    if device.threads:
        parts.append(wording.counted(device.threads, "thread"))
    if device.fallback_operators is not None:
        elsewhere = sum(device.fallback_operators.values())
        names = ", ".join(device.fallback_operators)
        parts.append(f"fallback: {elsewhere} ({names})" if elsewhere else "no fallback")
    if device.gpu is not None:
        parts.append(ran_where(device.gpu))
    runtime = f"onnxruntime {version}" if version else NOTHING
    return Cell(runtime if device.engine is None else device.engine.library, ", ".join(parts))


def _legend(devices: list[Device]) -> list[str]:
    lines = [
        "p50, p90 and p99 of the model alone on real inputs, one at a time; rows a second likewise. "
        f"{NOTHING} not measured."
    ]
    statuses = {device.status for device in devices}
    if "emulated" in statuses:
        lines.append(
            "Emulated: it runs there and its answers were scored; what an emulator takes is no latency."
        )
    if "built" in statuses:
        lines.append("Built: an engine for that GPU, which has not been run.")
    if any(device.energy for device in devices):
        lines.append("Energy: of one real input, by the device's own power monitor, idle power included.")
    if any(device.power is not None and device.power.mode for device in devices):
        lines.append("Mode: the power mode in which it was measured, and whether its clocks were locked.")
    if any(device.power is not None and device.power.change for device in devices):
        lines.append("A mode that was changed for it was put back afterwards, unless it says otherwise.")
    return lines
