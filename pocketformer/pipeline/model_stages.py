"""The stages that turn a Hugging Face directory into another one."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from pocketformer.compress.distill import DistillConfig, distill
from pocketformer.compress.encoding import TextEncoding, predict_logits
from pocketformer.compress.finetune import FinetuneConfig, finetune
from pocketformer.compress.prune.config import PruneConfig, VocabularyConfig
from pocketformer.compress.prune.sparsity import SparsityConfig, sparsify_step
from pocketformer.compress.quantize.aware import QatConfig, train_quantized
from pocketformer.pipeline.context import Made, RunContext
from pocketformer.pipeline.search.config import ChooseConfig, SearchConfig
from pocketformer.runtime.metrics import score
from pocketformer.runtime.results import StepResult

log = logging.getLogger("pocketformer")


def finetune_stage(config: FinetuneConfig, context: RunContext, folder: Path) -> Made:
    """Train a head and the model on the labels."""
    model = context.artefacts.need("model", verb="finetune")
    return _made(finetune(model, config, context.step_context(folder, verb="finetune")), context)


def distill_stage(config: DistillConfig, context: RunContext, folder: Path) -> Made:
    """Let the model, or a student of fewer layers, imitate the teacher."""
    model = context.artefacts.need("model", verb="distill")
    return _made(distill(model, config, context.step_context(folder, verb="distill")), context)


def prune_stage(config: PruneConfig, context: RunContext, folder: Path) -> Made:
    """Remove layers, heads and feed-forward neurons; how much was found out before is not searched again."""
    from pocketformer.compress.prune.step import prune

    model = context.artefacts.need("model", verb="prune")
    searched = config.cost == "budget"
    chosen = context.recipe.choices.get("prune") if searched else None
    if chosen is not None:
        config = replace(config, cost=float(chosen["cost"]))
    made = _made(prune(model, config, context.step_context(folder, verb="prune")), context)
    return replace(made, choices={"prune": {"cost": made.metrics["cost_limit"]}}) if searched else made


def sparsify_stage(config: SparsityConfig, context: RunContext, folder: Path) -> Made:
    """Set weights to zero, which training after it holds there."""
    model = context.artefacts.need("model", verb="prune")
    return _made(sparsify_step(model, config, context.step_context(folder, verb="prune")), context)


def vocabulary_stage(config: VocabularyConfig, context: RunContext, folder: Path) -> Made:
    """Remove vocabulary that the data does not use."""
    from pocketformer.compress.prune.step import prune_vocabulary_step

    model = context.artefacts.need("model", verb="prune")
    return _made(prune_vocabulary_step(model, config, context.step_context(folder, verb="prune")), context)


def qat_stage(config: QatConfig, context: RunContext, folder: Path) -> Made:
    """Train with products that compute as the quantized graph's will."""
    model = context.artefacts.need("model", verb="qat")
    return _made(train_quantized(model, config, context.step_context(folder, verb="qat")), context)


def search_stage(config: SearchConfig, context: RunContext, folder: Path) -> Made:
    """Make smaller and smaller models and take the best for the budget."""
    from pocketformer.pipeline.search.stage import search

    return search(config, context, folder)


def choose_stage(config: ChooseConfig, context: RunContext, folder: Path) -> Made:
    """Take a model of an earlier search as it is."""
    from pocketformer.pipeline.search.choosing import choose

    return choose(config, context, folder)


def _made(result: StepResult[Path], context: RunContext) -> Made:
    metrics = dict(result.metrics) | describe_model(result.output, context)
    for note in result.notes:
        log.info("%s", note)
    return Made(artefacts={"model": "model"}, metrics=metrics, notes=tuple(result.notes))


def describe_model(model_dir: Path, context: RunContext) -> dict[str, float]:
    """Validation score, parameters and size in 10^6 bytes of a Hugging Face directory."""
    from pocketformer.compress.models import load_classifier

    model = load_classifier(model_dir)
    parameters = sum(p.numel() for p in model.parameters())
    figures = {
        "parameters": float(parameters),
        "file_mb": sum(p.stat().st_size for p in model_dir.glob("*.safetensors")) / 1e6,
    }
    validation = context.need_splits("scoring").validation
    if validation.labels is not None and len(validation) > 0:
        encoding = TextEncoding(model_dir, context.recipe.max_length)
        predictions = predict_logits(model, encoding.encode(validation.texts), encoding.pad_id).argmax(-1)
        labels = np.asarray(validation.labels, dtype=np.int64)
        classes = len(context.need_splits("scoring").label_names)
        figures[f"validation_{context.metric}"] = score(context.metric, labels, predictions, classes)
    return figures
