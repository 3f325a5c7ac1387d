"""The result against the budget: limits checked by the point estimate, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pocketformer.report import wording
from pocketformer.report.schema import (
    Baselines,
    Budget,
    BudgetCheck,
    Device,
    Evaluation,
    Measurement,
    Result,
    Speedup,
)

_OF_ITS_SPEED = ("max_latency_ms", "max_memory_mb")
# 0.934 - 0.924 is a little more than 0.01 in binary; that must not fail a budget of one point.
_ROUNDING = 1e-9


def check_budget(budget: Budget, devices: Iterable[Device]) -> list[BudgetCheck]:
    """One row for each limit and device; ``met`` is null where the number was not measured.

    A device that has no answers (built, or failed) is held to nothing while another has some, and an emulated one
    to no limit of latency or memory, which it cannot have.
    """
    checks = []
    devices = list(devices)
    for device in [device for device in devices if device.result is not None] or devices:
        result = device.result
        latency = result.latency_ms.get(budget.latency_workload) if result else None
        limits = (
            ("max_drop", budget.max_drop, result.drop if result else None),
            ("max_latency_ms", budget.max_latency_ms, latency.p50 if latency else None),
            ("max_size_mb", budget.max_size_mb, result.file_mb if result else None),
            ("max_memory_mb", budget.max_memory_mb, result.peak_memory_mb if result else None),
        )
        for name, limit, measured in limits:
            if limit is not None and not (device.status == "emulated" and name in _OF_ITS_SPEED):
                met = None if measured is None else measured <= limit + _ROUNDING
                checks.append(
                    BudgetCheck.model_validate(
                        {
                            "name": name,
                            "device": device.name,
                            "limit": limit,
                            "measured": measured,
                            "met": met,
                        }
                    )
                )
    return checks


def budget_met(checks: Sequence[BudgetCheck]) -> bool:
    """Whether every limit was measured and holds; a number that is missing meets nothing."""
    return all(check.met is True for check in checks)


def speedups(baselines: Baselines, result: Result) -> dict[str, Speedup]:
    """Ratios of medians for every workload that the result and at least one baseline were timed on."""

    def factor(baseline: Measurement | None, workload: str) -> float | None:
        timed = baseline.latency_ms.get(workload) if baseline else None
        own = result.latency_ms[workload].p50
        return timed.p50 / own if timed and own > 0 else None

    found = {}
    for workload in wording.workload_order(set(result.latency_ms)):
        torch = factor(baselines.torch_eager, workload)
        onnxruntime = factor(baselines.onnxruntime_fp32, workload)
        if torch is not None or onnxruntime is not None:
            found[workload] = Speedup(vs_torch=torch, vs_onnxruntime=onnxruntime)
    return found


def limit_label(check: BudgetCheck) -> str:
    """A limit in words."""
    names = {
        "max_drop": "Drop",
        "max_latency_ms": "Latency (p50)",
        "max_size_mb": "Size of the model files",
        "max_memory_mb": "Peak memory",
    }
    return names[check.name]


def amount(check: BudgetCheck, value: float | None) -> str:
    """``limit`` or ``measured`` of a check with its unit."""
    if value is None:
        return wording.NOT_MEASURED
    if check.name == "max_drop":
        return wording.points_in_words(value)
    if check.name == "max_latency_ms":
        return wording.milliseconds(value)
    return wording.megabytes(value)


def compose_verdict(
    metric_name: str, evaluation: Evaluation, checks: Sequence[BudgetCheck], devices: Sequence[Device]
) -> str:
    """One or two sentences: met or not, which limit, and whether the interval reaches past the limit."""
    metric = wording.metric_in_words(metric_name, evaluation)
    if not checks:
        return f"No budget was set. {_drop_sentence(metric, devices)}"
    failed = [check for check in checks if check.met is not True]
    if failed:
        several = len({check.device for check in checks}) > 1
        where: dict[str, list[str]] = {}
        for check in failed:
            where.setdefault(_reason(metric, check), []).append(check.device)
        reasons = "; ".join(
            reason + (f" (on {', '.join(names)})" if several else "") for reason, names in where.items()
        )
        return f"Budget not met: {reasons}."
    drop = next((check for check in checks if check.name == "max_drop"), None)
    if drop is None:
        held = "; ".join(
            f"{limit_label(c).lower()} {amount(c, c.measured)} of {amount(c, c.limit)}" for c in checks
        )
        return f"Budget met: {held}. {_drop_sentence(metric, devices)}"
    sentence = f"Budget met: {_reason(metric, drop)}."
    bounds = next((d.result.drop_ci95 for d in devices if d.name == drop.device and d.result), None)
    if bounds is not None and bounds[1] > drop.limit + _ROUNDING:
        reach = wording.interval(bounds, as_points=True)
        sentence += f" The 95% interval of the drop, {reach} points, reaches past that limit."
    return sentence


def _change(metric: str, drop: float) -> str:
    if wording.points(drop) == "0.0":
        return f"{metric} is unchanged"
    return f"{metric} {'falls' if drop > 0 else 'rises'} by {wording.points_in_words(abs(drop))}"


def _drop_sentence(metric: str, devices: Sequence[Device]) -> str:
    drop = next((d.result.drop for d in devices if d.result and d.result.drop is not None), None)
    if drop is None:
        return f"The change of {metric} was not measured."
    sentence = _change(metric, drop)
    return f"{wording.capitalised(sentence)}."


def _reason(metric: str, check: BudgetCheck) -> str:
    allowed = amount(check, check.limit)
    if check.measured is None:
        return f"{limit_label(check).lower()} was not measured, at most {allowed} is allowed"
    if check.name == "max_drop":
        return (
            f"{_change(metric, check.measured)}, {'at most ' if check.met else 'only '}{allowed} is allowed"
        )
    return f"{limit_label(check).lower()} is {amount(check, check.measured)}, at most {allowed} is allowed"
