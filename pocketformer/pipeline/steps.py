"""The steps that a recipe can name: one explicit tuple, in the order in which they usually stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketformer.compress.distill import DistillConfig
from pocketformer.compress.finetune import FinetuneConfig
from pocketformer.compress.prune.config import PruneConfig, VocabularyConfig
from pocketformer.pipeline import deliver_stages, graph_stages, model_stages
from pocketformer.pipeline.context import Made, RunContext
from pocketformer.pipeline.deliver_stages import BenchConfig, BundleConfig, ReportConfig
from pocketformer.pipeline.graph_stages import ExportConfig, QuantizeConfig


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step's name, the version of what it computes (part of a stage's key), settings and function."""

    name: str
    version: int
    config: type[Any]
    function: Callable[[Any, RunContext, Path], Made]


STEPS: tuple[Step, ...] = (
    Step(name="finetune", version=1, config=FinetuneConfig, function=model_stages.finetune_stage),
    Step(name="distill", version=1, config=DistillConfig, function=model_stages.distill_stage),
    Step(name="prune", version=1, config=PruneConfig, function=model_stages.prune_stage),
    Step(name="vocabulary", version=1, config=VocabularyConfig, function=model_stages.vocabulary_stage),
    Step(name="export", version=1, config=ExportConfig, function=graph_stages.export_stage),
    Step(name="quantize", version=1, config=QuantizeConfig, function=graph_stages.quantize_stage),
    Step(name="bundle", version=1, config=BundleConfig, function=deliver_stages.bundle_stage),
    Step(name="bench", version=1, config=BenchConfig, function=deliver_stages.bench_stage),
    Step(name="report", version=1, config=ReportConfig, function=deliver_stages.report_stage),
)
STEP_NAMES: tuple[str, ...] = tuple(step.name for step in STEPS)


def step_by_name(name: str) -> Step:
    """The step of this name; ``KeyError`` when there is none."""
    return next(step for step in STEPS if step.name == name) if name in STEP_NAMES else _missing(name)


def config_class(name: str) -> type[Any]:
    """The config dataclass of a step."""
    return step_by_name(name).config


def _missing(name: str) -> Step:
    raise KeyError(name)
