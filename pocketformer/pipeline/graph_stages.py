"""The stages that turn a model into graphs: fp32 ONNX, then the measured best of many quantized ones."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketformer.compress.quantize.candidates import USUAL_CANDIDATES
from pocketformer.pipeline.context import Made, RunContext
from pocketformer.runtime.errors import InputError, MissingDependencyError
from pocketformer.runtime.manifest import graph_files

if TYPE_CHECKING:
    from pocketformer.pipeline.choice import Tried
    from pocketformer.pipeline.portfolio import Portfolio

log = logging.getLogger("pocketformer")

Exporter = Literal["optimum", "dynamo"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """``exporter`` None: optimum where it is installed, whose graphs onnxruntime fuses; else torch's dynamo."""

    exporter: Exporter | None = None
    opset: int | None = None
    tolerance: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """``candidates``: names of the portfolio; ``calibration``: texts for static quantization.

    ``close``: candidates within this share of the fastest count as equally fast. Of these the smallest wins whose
    validation metric lies within ``close_drop`` times the allowed drop of the best: accuracy is not spent on little.
    ``fallback``: where no int8 candidate keeps the budget's drop, smooth the nearest or leave products in float32.
    ``tune_session``: whether settings of the session are tried on the chosen one.
    """

    candidates: tuple[str, ...] = USUAL_CANDIDATES
    calibration: int = 256
    rounds: int = 20
    close: float = 0.1
    close_drop: float = 0.25
    fallback: bool = True
    tune_session: bool = True


def export_stage(config: ExportConfig, context: RunContext, folder: Path) -> Made:
    """Write fp32 ONNX and check it against torch at several shapes."""
    from pocketformer.compress.models import load_classifier

    source = context.artefacts.need("model", verb="export")
    model = load_classifier(source)
    graph, metrics = export_plain(
        model, source, folder / "model.onnx", exporter=config.exporter, context=context, config=config
    )
    metrics["file_mb"] = graph.stat().st_size / 1e6
    return Made(artefacts={"graph": "model.onnx"}, metrics=metrics)


def export_plain(
    model: Any,
    source: Path,
    path: Path,
    *,
    exporter: Exporter | None,
    context: RunContext,
    config: ExportConfig | None = None,
) -> tuple[Path, dict[str, float]]:
    """Export ``model`` to ``path`` and check parity; the file and what was measured."""
    from pocketformer.export.onnx_export import export_onnx
    from pocketformer.export.parity import check_parity

    config = config or ExportConfig()
    exported = export_onnx(model, source, path, exporter=exporter or default_exporter(), opset=config.opset)
    parity = check_parity(
        model,
        exported.output,
        vocab_size=int(model.config.vocab_size),
        tolerance=config.tolerance,
        seed=context.recipe.seed,
    )
    return exported.output, dict(exported.metrics) | dict(parity.metrics)


def default_exporter() -> Exporter:
    """The exporter whose graphs onnxruntime fuses, where it is installed."""
    return "optimum" if util.find_spec("optimum") and util.find_spec("optimum.exporters") else "dynamo"


def quantize_stage(config: QuantizeConfig, context: RunContext, folder: Path) -> Made:
    """Make the candidates, measure them, keep the best; a choice made earlier is carried out without measuring."""
    from pocketformer.pipeline.choice import overflow_note
    from pocketformer.pipeline.portfolio import Portfolio
    from pocketformer.pipeline.session_tuning import TriedSettings, chosen_settings

    graph = context.artefacts.need("graph", verb="quantize")
    portfolio = Portfolio(config, context, graph, folder / "work")
    chosen = context.recipe.choices.get("quantize")
    if chosen is not None:
        candidate = portfolio.make(str(chosen), tuple(context.recipe.choices.get("float_products", ())))
        if candidate.path is None:
            raise InputError(f"the recipe's choice {chosen!r} cannot be made here: {candidate.reason}")
        candidates = [candidate]
    else:
        candidates = portfolio.measure_all()
        candidate = portfolio.choice.choose(candidates)
        candidates = portfolio.choice.explain(candidates, candidate)
        candidate = next(c for c in candidates if c.name == candidate.name)
    session = chosen_settings(context.recipe.choices)
    tried: list[TriedSettings] = []
    if session is None and config.tune_session and chosen is None:
        session, tried = portfolio.tune_session(candidate)
    session = session or {}
    if candidate.path is None:
        raise MissingDependencyError("no candidate could be made", hint="See log.txt in the run directory.")
    name = f"model{candidate.path.suffix}"
    for part in graph_files(candidate.path):
        shutil.copyfile(part, (folder / name).with_suffix(part.suffix))
    metrics = {"file_mb": candidate.file_mb}
    if candidate.metric is not None:
        metrics[f"validation_{context.metric}"] = candidate.metric
    return Made(
        artefacts={"quantized": name},
        metrics=metrics,
        notes=(
            f"{candidate.name}: {candidate.reason}",
            *(f"session: {t.name}: {t.reason}" for t in tried if t.taken),
            *overflow_note(candidate, candidates),
            *_training_note(portfolio, candidates, context),
        ),
        choices={
            "quantize": candidate.name,
            "session": session,
            **({"float_products": list(candidate.float_products)} if candidate.float_products else {}),
        },
        details={
            "precision": candidate.precision,
            "teacher_metric": portfolio.teacher_metric,
            "engine": candidate.engine,
            "session": session,
            "candidates": [
                *(c.to_dict(taken=c.name == candidate.name) for c in candidates),
                *(t.to_dict(candidate.name) for t in tried),
            ],
        },
    )


def _training_note(portfolio: Portfolio, candidates: Sequence[Tried], context: RunContext) -> tuple[str, ...]:
    """What is left to try where int8 costs more than the budget allows, even with its worst products in float32."""
    teacher, limit = portfolio.teacher_metric, context.recipe.budget.max_drop
    scores = [c.metric for c in candidates if c.metric is not None and c.precision.startswith("int8")]
    trained = any(record["name"] == "qat" for record in context.records)
    if teacher is None or limit is None or trained or not scores or max(scores) >= teacher - limit - 1e-9:
        return ()
    return (
        "no int8 candidate keeps the drop; `compress --qat`, or a qat step before export, trains the model for int8",
    )
