"""The steps that a recipe can name: one explicit tuple, in the order in which they usually stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketformer.compress.distill import DistillConfig
from pocketformer.compress.finetune import FinetuneConfig
from pocketformer.compress.prune.config import PruneConfig, VocabularyConfig
from pocketformer.compress.prune.sparsity import SparsityConfig
from pocketformer.compress.quantize.aware import QatConfig
from pocketformer.pipeline.context import Made, RunContext
from pocketformer.pipeline.deliver_stages import (
    BenchConfig,
    BundleConfig,
    ReportConfig,
    bench_stage,
    bundle_stage,
    report_stage,
)
from pocketformer.pipeline.engine_stages import TensorrtConfig, tensorrt_stage
from pocketformer.pipeline.format_stages import LitertConfig, litert_stage
from pocketformer.pipeline.graph_stages import ExportConfig, QuantizeConfig, export_stage, quantize_stage
from pocketformer.pipeline.model_stages import (
    choose_stage,
    distill_stage,
    finetune_stage,
    prune_stage,
    qat_stage,
    search_stage,
    sparsify_stage,
    vocabulary_stage,
)
from pocketformer.pipeline.search.config import ChooseConfig, SearchConfig


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step's name, the version of what it computes (part of a stage's key), settings and function.

    ``packages`` are those whose version decides this step's result and no other's; ``choices`` the names of what it
    chooses by measuring, which a resolved recipe holds.
    """

    name: str
    version: int
    config: type[Any]
    function: Callable[[Any, RunContext, Path], Made]
    packages: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


STEPS: tuple[Step, ...] = (
    Step(name="finetune", version=1, config=FinetuneConfig, function=finetune_stage),
    Step(name="distill", version=4, config=DistillConfig, function=distill_stage),
    Step(name="prune", version=2, config=PruneConfig, function=prune_stage, choices=("prune",)),
    Step(name="sparsify", version=1, config=SparsityConfig, function=sparsify_stage),
    Step(name="vocabulary", version=2, config=VocabularyConfig, function=vocabulary_stage),
    Step(name="search", version=1, config=SearchConfig, function=search_stage, choices=("search",)),
    Step(name="choose", version=1, config=ChooseConfig, function=choose_stage),
    Step(name="qat", version=1, config=QatConfig, function=qat_stage),
    Step(name="export", version=1, config=ExportConfig, function=export_stage),
    Step(
        name="quantize",
        version=6,
        config=QuantizeConfig,
        function=quantize_stage,
        packages=("openvino", "nncf"),
        choices=("quantize", "float_products", "session"),
    ),
    Step(
        name="tensorrt",
        version=2,
        config=TensorrtConfig,
        function=tensorrt_stage,
        packages=("tensorrt", "tensorrt-rtx-cu12"),
    ),
    Step(
        name="litert",
        version=1,
        config=LitertConfig,
        function=litert_stage,
        packages=("litert-torch", "ai-edge-litert", "ai-edge-quantizer"),
    ),
    Step(name="bundle", version=3, config=BundleConfig, function=bundle_stage),
    Step(name="bench", version=4, config=BenchConfig, function=bench_stage),
    Step(name="report", version=2, config=ReportConfig, function=report_stage),
)
STEP_NAMES: tuple[str, ...] = tuple(step.name for step in STEPS)


def step_by_name(name: str) -> Step:
    """The step of this name; ``KeyError`` when there is none."""
    return {step.name: step for step in STEPS}[name]


def config_class(name: str) -> type[Any]:
    """The config dataclass of a step."""
    return step_by_name(name).config
