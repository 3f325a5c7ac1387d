"""The stages that pack, measure and report what ships."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pocketformer.pipeline.context import Made, RunContext
from pocketformer.pipeline.fleet import FleetDevice, places_of
from pocketformer.pipeline.origins import data_license_text, data_origins, model_origin
from pocketformer.pipeline.rundir import origin_of
from pocketformer.runtime.errors import InputError, RecipeError
from pocketformer.runtime.manifest import ONNXRUNTIME, SessionSettings

log = logging.getLogger("pocketformer")


@dataclass(frozen=True, kw_only=True)
class BundleConfig:
    """``name`` of the bundle (default: of the model); ``golden`` how many samples prove it on another device."""

    name: str | None = None
    golden: int = 16


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """``rounds`` timed rounds for 1 x 32, in proportion for the rest; ``loadgen_s`` seconds a scenario, 0: without.

    ``cold_starts`` of the bundle, whose median counts, and one of the teacher; 0: none. ``devices`` says how targets
    of these names are reached; those that no target names are measured as well.

    ``latency_table``: None predicts the bundle's latency from a table of this device where there is one, True measures
    one first where there is none (a minute or two), False predicts nothing. ``roofline``: also measure what bounds it.
    """

    rounds: int = 40
    loadgen_s: float = 3.0
    cold_starts: int = 3
    latency_table: bool | None = None
    roofline: bool = True
    devices: tuple[FleetDevice, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """``name`` that the report is headed with (default: of the model)."""

    name: str | None = None


def bundle_stage(config: BundleConfig, context: RunContext, folder: Path) -> Made:
    """Write the bundle of the newest graph and put a copy into bundles/TARGET."""
    bundle = pack_graph(
        config,
        context,
        folder / "bundle",
        graph=context.artefacts.quantized or context.artefacts.need("graph", verb="bundle"),
        settings=_quantize_details(context),
    )
    publish(bundle, context.directory.path / "bundles" / places_of(context.recipe)[0].name)
    size = sum(p.stat().st_size for p in bundle.iterdir()) / 1e6
    return Made(artefacts={"bundle": "bundle"}, metrics={"file_mb": size})


def pack_graph(
    config: BundleConfig,
    context: RunContext,
    output: Path,
    *,
    graph: Path,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write the bundle ``output`` of ``graph``; ``settings`` is what its quantization chose, None: plain fp32."""
    from pocketformer.compress.encoding import TextEncoding
    from pocketformer.compress.licence import license_text
    from pocketformer.compress.models import label_names_of
    from pocketformer.export.bundle import write_bundle

    artefacts, settings = context.artefacts, settings or {}
    model = artefacts.need("model", verb="bundle")
    labels = context.splits.label_names if context.splits else label_names_of(model)
    if not labels:
        raise InputError(f"{model} does not say what its labels are called", hint="Name data with --train.")
    source = artefacts.teacher or model
    return write_bundle(
        output,
        graph=graph,
        tokenizer_json=model / "tokenizer.json",
        labels=labels,
        max_length=context.recipe.max_length,
        pad_id=TextEncoding(model, context.recipe.max_length).pad_id,
        golden_texts=_golden_texts(context, config.golden),
        precision=settings.get("precision", "fp32"),
        target=places_of(context.recipe)[0].name,
        engine=settings.get("engine", ONNXRUNTIME),
        session=_session(context, settings),
        provenance=_provenance(context, source),
        name=config.name or origin_of(context.recipe.model).name,
        license_text=license_text(origin_of(context.recipe.model)),
        data_license_text=data_license_text(context.recipe),
        origins=[model_origin(context.recipe), *data_origins(context.recipe)],
    ).output


def bench_stage(config: BenchConfig, context: RunContext, folder: Path) -> Made:
    """Score and time teacher and result, on all targets, and write measurements.json.

    A device that failed is told in ``details``: the run goes on, and the same command again tries that device anew.
    """
    from pocketformer.pipeline.measurements import measure_bundle

    values = measure_bundle(config, context, folder)
    (folder / "measurements.json").write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    rows = values["devices"]
    result: dict[str, Any] = next((row["result"] for row in rows if row.get("result")), {})
    figures = {name: result.get(name) for name in ("drop", "file_mb")}
    failed = {row["name"]: row["error"] for row in rows if row["status"] == "failed"}
    notes = [note if len(rows) == 1 else f"{r['name']}: {note}" for r in rows for note in r.get("notes", ())]
    return Made(
        artefacts={"measurements": "measurements.json"},
        metrics={name: value for name, value in figures.items() if value is not None},
        notes=(*notes, *(f"{name} failed: {error}" for name, error in failed.items())),
        details={"failed": list(failed)} if failed else {},
    )


def report_stage(config: ReportConfig, context: RunContext, folder: Path) -> Made:
    """Compose report.json and render it."""
    from pocketformer.pipeline.reporting import compose_report
    from pocketformer.report.html import render_html
    from pocketformer.report.markdown import render_markdown
    from pocketformer.report.model_card import render_model_card
    from pocketformer.report.storage import save_report

    measured = json.loads(context.artefacts.need("measurements", verb="report").read_text(encoding="utf-8"))
    report = compose_report(measured, context, name=config.name or origin_of(context.recipe.model).name)
    save_report(report, folder / "report.json")
    (folder / "report.html").write_text(render_html(report), encoding="utf-8")
    (folder / "report.md").write_text(render_markdown(report), encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(render_model_card(report), encoding="utf-8")
    for name in ("report.json", "report.html", "report.md", "MODEL_CARD.md"):
        context.directory.write_text(name, (folder / name).read_text(encoding="utf-8"))
    return Made(metrics={"budget_met": float(report.budget_met)}, notes=(report.verdict,))


def publish(source: Path, place: Path) -> None:
    """Put a copy of a bundle where users look for it; the old one goes only when the new one is whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    shutil.rmtree(place, ignore_errors=True)
    temporary.rename(place)


def _golden_texts(context: RunContext, count: int) -> list[str]:
    if context.splits is None:
        raise RecipeError("a bundle needs texts for its golden samples", hint="Name a file with --train.")
    texts = context.splits.validation.texts or context.splits.train.texts
    # Spread over the split, the longest and the shortest among them.
    ordered = sorted(texts, key=len)
    step = max(1, (len(ordered) - 1) // max(1, count - 1))
    return list(dict.fromkeys([*ordered[::step][: count - 1], ordered[-1]]))


def _quantize_details(context: RunContext) -> Mapping[str, Any]:
    for record in reversed(context.records):
        if record["name"] == "quantize":
            details: Mapping[str, Any] = record["details"]
            return details
    return {}


def _session(context: RunContext, details: Mapping[str, Any]) -> SessionSettings:
    """The settings that were chosen by measuring, with the threads that the recipe or the target fixes."""
    tuned = SessionSettings(**details.get("session", {}))
    threads = context.recipe.threads or places_of(context.recipe)[0].threads
    # Else all cores of whatever device it lands on.
    return tuned if threads is None else replace(tuned, intra_op_threads=threads)


def _provenance(context: RunContext, source: Path) -> dict[str, Any]:
    from pocketformer import __version__

    return {
        "made_by": f"pocketformer {__version__}",
        "source_model": source.name,
        "stages": [{"name": r["name"], "key": r["key"]} for r in context.records],
        "choices": dict(context.choices),
        "seed": context.recipe.seed,
    }
