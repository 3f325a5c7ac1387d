"""From what a run recorded and measured to the report: nothing is measured here, and nothing made up."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pocketformer.pipeline.devices import hardware
from pocketformer.pipeline.origins import data_origins, model_origin
from pocketformer.report.front import mark_front
from pocketformer.report.schema import Baselines, Budget, Device, Evaluation, ParetoPoint, Report, Result
from pocketformer.report.verdict import budget_met, check_budget, compose_verdict, speedups

if TYPE_CHECKING:
    from pocketformer.pipeline.context import RunContext

# A teacher that beats the classical baseline by less than this is hardly worth its size.
_WEAK_MARGIN = 0.02
_TITLES = {
    "finetune": "fine-tune",
    "distill": "distil",
    "prune": "prune structure",
    "sparsify": "set weights to zero",
    "vocabulary": "prune vocabulary",
    "search": "search",
    "qat": "train for quantization",
    "quantize": "quantize",
}


def compose_report(measured: Mapping[str, Any], context: RunContext, *, name: str) -> Report:
    """The report of a run from its stage records and one bench's measurements."""
    from pocketformer import __version__
    from pocketformer.targets.probe import probe_cpu

    probe = probe_cpu()
    evaluation = Evaluation(
        split=measured["evaluation"]["split"],
        rows=measured["evaluation"]["rows"],
        basis=measured["evaluation"]["basis"],
    )
    metric_name = context.metric if evaluation.basis == "labels" else "agreement"
    devices = [_device(row, probe) for row in measured["devices"]]
    budget = Budget.model_validate(context.recipe.budget.model_dump())
    checks = check_budget(budget, devices)
    return Report.model_validate(
        {
            "pocketformer_version": __version__,
            "created": datetime.now(UTC),
            "name": name,
            "task": context.recipe.task,
            "metric_name": metric_name,
            "evaluation": evaluation,
            "budget": budget,
            "budget_met": budget_met(checks),
            "budget_checks": checks,
            "verdict": compose_verdict(metric_name, evaluation, checks, devices),
            "needed": _needed(
                checks, searched=any(r["name"] in ("search", "choose") for r in context.records)
            ),
            "steps": _steps(measured, context),
            "pareto": _pareto(measured, context),
            "candidates": _candidates(context),
            "references": measured["references"],
            "devices": devices,
            "per_class": measured["per_class"],
            "flipped_examples": measured["flipped_examples"],
            "data_audit": _audit(measured, context),
            "warnings": _warnings(measured, devices, context),
            "lineage": _lineage(context),
            "environment": _environment(probe),
            "recipe": _recipe(context),
        }
    )


def _device(row: Mapping[str, Any], probe: Mapping[str, Any]) -> Device:
    """One device as it was measured; ratios of what was timed side by side."""
    values = dict(row)
    if values.get("baselines"):
        baselines = Baselines.model_validate(values["baselines"])
        faster = speedups(baselines, Result.model_validate(values["result"]))
        values |= {"hardware": hardware(probe), "speedup": {k: v.model_dump() for k, v in faster.items()}}
    return Device.model_validate(values)


def _recipe(context: RunContext) -> dict[str, Any]:
    """The resolved recipe, without the places of keys on this machine."""
    resolved = context.recipe.model_copy(update={"choices": context.choices}).model_dump(mode="json")
    for step in resolved["steps"]:
        for device in step["config"].get("devices", ()) if step["name"] == "bench" else ():
            for name in ("identity", "known_hosts"):
                device.pop(name, None)
    return resolved


def _candidates(context: RunContext) -> list[dict[str, Any]]:
    return [row for record in context.records for row in record["details"].get("candidates", [])]


def _steps(measured: Mapping[str, Any], context: RunContext) -> list[dict[str, Any]]:
    """The teacher, then the model as each step left it, then what ships."""
    latencies, teacher = measured["step_latency_ms"], measured["teacher"]
    result: dict[str, Any] = next((row["result"] for row in measured["devices"] if row.get("result")), {})
    key = f"validation_{context.metric}"
    rows = [
        {
            "name": "teacher",
            "stage": "teacher",
            "metric": _teacher_score(context),
            "file_mb": teacher["file_mb"],
            "parameters": teacher["parameters"],
            "latency_ms": latencies.get("0"),
        }
    ]
    for record in context.records:
        if record["name"] == "finetune":
            rows[0] |= {"seconds": record["seconds"], "notes": record["notes"]}
        elif record["artefacts"].get("model") or record["name"] == "quantize":
            ships = record["name"] == "quantize"
            rows.append(
                {
                    "name": _title(record, context),
                    "stage": record["name"],
                    "metric": record["metrics"].get(key),
                    "file_mb": result.get("file_mb") if ships else record["metrics"].get("file_mb"),
                    "parameters": result.get("parameters")
                    if ships
                    else round(record["metrics"]["parameters"]),
                    "latency_ms": latencies.get("result" if ships else str(record["index"])),
                    "seconds": record["seconds"],
                    "notes": record["notes"],
                }
            )
    return rows


def _title(record: Mapping[str, Any], context: RunContext) -> str:
    title = _TITLES.get(record["name"], record["name"])
    if record["name"] == "distill" and record["config"]["layers"] is None:
        return "recover by distilling"
    return f"{title}: {context.choices['quantize']}" if record["name"] == "quantize" else title


def _teacher_score(context: RunContext) -> float | None:
    """The teacher's validation score: of its fine-tuning, or as quantize found it."""
    for record in context.records:
        value = record["details"].get("teacher_metric")
        if value is not None:
            return float(value)
        if record["name"] == "finetune":
            return float(record["metrics"][f"validation_{context.metric}"])
    return None


def _pareto(measured: Mapping[str, Any], context: RunContext) -> list[ParetoPoint]:
    """Teacher and candidates by validation metric, size and p50 on real inputs."""
    points: list[ParetoPoint] = []
    teacher, eager = _teacher_score(context), measured["teacher"]
    if teacher is not None and "real" in eager["latency_ms"]:
        points.append(
            ParetoPoint(
                name="teacher, onnxruntime fp32",
                role="teacher",
                metric=teacher,
                file_mb=eager["file_mb"],
                latency_ms=eager["latency_ms"]["real"]["p50"],
                on_front=False,
            )
        )
    for row in _candidates(context):
        if row["metric"] is not None and row["file_mb"] and "real" in row["latency_ms"]:
            points.append(
                ParetoPoint(
                    name=row["name"],
                    metric=row["metric"],
                    file_mb=row["file_mb"],
                    latency_ms=row["latency_ms"]["real"],
                    on_front=False,
                    chosen=row["taken"] and row["stage"] == "quantize",
                    reason=row["reason"],
                )
            )
    return mark_front(points)


def _needed(checks: list[Any], *, searched: bool) -> list[str]:
    """What would meet the budget, read off what was measured; empty when it is met."""
    out: list[str] = []
    for check in checks:
        if check.met:
            continue
        if check.name == "max_drop":
            out.append(
                "Allow a larger drop, or give the search more time or more text."
                if searched
                else "Keep more of the model (distill: layers; prune: heads, ffn), train it longer, or let "
                "`compress --search` try several."
            )
        elif check.measured is not None:
            out.append(
                f"{check.name}: {check.measured / check.limit:.2f} times what is allowed; "
                + ("allow a larger drop." if searched else "prune further, or let `compress --search` try.")
            )
    return list(dict.fromkeys(out))


def _audit(measured: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
    splits = context.need_splits("report")
    rows = {"train": len(splits.train), "validation": len(splits.validation)}
    if measured["evaluation"]["split"] == "test":
        rows["test"] = measured["evaluation"]["rows"]
    return {
        **splits.audit.to_dict(),
        "rows": rows,
        "max_length": context.recipe.max_length,
        "truncation_rate": measured["truncation_rate"],
    }


def _warnings(
    measured: Mapping[str, Any], devices: Sequence[Device], context: RunContext
) -> list[dict[str, str]]:
    out: list[dict[str, str]] = []
    classical = measured["references"].get("tfidf_logistic_regression", {}).get("metric")
    score = measured["teacher"]["metric"]
    if classical is not None and score is not None and score < classical + _WEAK_MARGIN:
        out.append(
            {
                "code": "weak_teacher",
                "message": f"The teacher's {context.metric} of {score:.1%} is not clearly above the {classical:.1%} of "
                "TF-IDF with logistic regression. A weak teacher makes every drop look small.",
            }
        )
    if measured["evaluation"]["basis"] == "teacher":
        out.append(
            {
                "code": "accuracy_not_measured",
                "message": "There were no labels to measure with: all figures are agreement with the teacher, and "
                "accuracy is not measured.",
            }
        )
    failed = [device.name for device in devices if device.status == "failed"]
    if failed:
        out.append(
            {
                "code": "device_failed",
                "message": f"{len(failed)} of {len(devices)} devices failed: {', '.join(failed)}.",
            }
        )
    for device in devices:
        out += [{"code": "device_warning", "message": f"{device.name}: {text}"} for text in device.warnings]
    return out


def _lineage(context: RunContext) -> dict[str, Any]:
    teacher = model_origin(context.recipe)
    files = data_origins(context.recipe)
    return {
        "teacher": {
            "name": teacher.name,
            "architecture": _architecture(context),
            "license": teacher.license,
            "sha256": teacher.sha256,
        },
        "data": [{"split": item.role, "name": item.name, "sha256": item.sha256} for item in files],
        "stages": [
            {"name": r["name"], "key": r["key"], "seconds": r["seconds"], "outputs": r["outputs"]}
            for r in context.records
        ],
        "seed": context.recipe.seed,
    }


def _architecture(context: RunContext) -> str | None:
    import json

    directory = context.artefacts.teacher or context.artefacts.model
    if directory is None:
        return None
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    names = config.get("architectures") or [None]
    return str(names[0]) if names[0] else None


def _environment(probe: Mapping[str, Any]) -> dict[str, Any]:
    from pocketformer.pipeline.run import versions

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "architecture": platform.machine(),
        "cpu": probe["model"],
        "cores": probe["threads"],
        "cpu_flags": [name for name, present in probe["flags"].items() if present],
        "memory_mb": probe["memory_bytes"] / 1e6 if probe["memory_bytes"] else None,
        "packages": versions(),
    }
