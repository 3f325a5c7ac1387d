"""``--dry-run``: what a run would do, with the time and memory to expect. Nothing is written.

Times come from the model's multiply-accumulates, the data's token counts and a short matrix product timed on this
machine. They are estimates and say so.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pocketformer.pipeline.fleet import threads_here
from pocketformer.pipeline.inputs import load_splits, resolve_inputs
from pocketformer.pipeline.preflight import preflight
from pocketformer.pipeline.recipe import Recipe
from pocketformer.runtime.engine import available_cores

if TYPE_CHECKING:
    from pathlib import Path

# A training step costs a forward and twice that backward, and reaches about half of what a bare product does.
_TRAIN_PASSES = 3.0
_SHARE_OF_PEAK = 0.5
# Rounding weights and activations comes on top.
_ROUNDED_PASSES = 1.5 * _TRAIN_PASSES
# To cut, export, quantize and time a model of the search.
_TRIAL_SECONDS = 60.0
_FIXED_SECONDS = {
    "prune": 10.0,
    "sparsify": 10.0,
    "vocabulary": 8.0,
    "export": 20.0,
    "quantize": 100.0,
    "tensorrt": 30.0,
    "litert": 90.0,
    "bundle": 3.0,
    "bench": 75.0,
}


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage, what it does in words, and the seconds it may take."""

    name: str
    what: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages of a run, the data it would use, and the memory it may need at its peak."""

    stages: tuple[PlannedStage, ...]
    train_rows: int
    validation_rows: int
    tokens_per_text: float
    truncation_rate: float
    memory_mb: float

    @property
    def seconds(self) -> float:
        """Expected seconds of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self) | {"seconds": self.seconds}

    def lines(self) -> list[str]:
        """The plan as a person reads it."""
        head = [
            f"Data: {self.train_rows} train, {self.validation_rows} validation, "
            f"{self.tokens_per_text:.0f} tokens a text, {self.truncation_rate:.1%} truncated"
        ]
        rows = [
            f"  {i:>2}. {s.name:<11} {_duration(s.seconds):>8}  {s.what}"
            for i, s in enumerate(self.stages, 1)
        ]
        tail = f"Expected: {_duration(self.seconds)} and {self.memory_mb / 1000:.1f} GB of memory. Nothing was written."
        return [*head, *rows, tail]


def plan(recipe: Recipe) -> Plan:
    """Estimate a run of ``recipe``; its inputs are checked as a run checks them."""
    recipe, artefacts = resolve_inputs(recipe)
    splits, _ = load_splits(recipe, artefacts)
    recipe, _ = preflight(recipe, artefacts, splits)
    source = artefacts.model
    if splits is None or source is None:
        stages = tuple(_stage(step.name, step.config, 0.0) for step in recipe.steps)
        return Plan(
            stages=stages,
            train_rows=0,
            validation_rows=0,
            tokens_per_text=0.0,
            truncation_rate=0.0,
            memory_mb=500.0,
        )
    from pocketformer.compress.encoding import TextEncoding

    encoding = TextEncoding(source, recipe.max_length)
    rows = encoding.encode(splits.train.texts)
    tokens = sum(map(len, rows)) / max(1, len(rows))
    macs, parameters = _encoder_size(source)
    forward = (
        macs * tokens * len(rows) / (_matmul_rate(threads_here(recipe) or available_cores()) * _SHARE_OF_PEAK)
    )
    share = 1.0
    stages_: list[PlannedStage] = []
    asked = False
    for step in recipe.steps:
        stage = _stage(step.name, step.config, forward, share)
        if step.name == "distill" and not asked:
            # The teacher's answers are kept, so later steps ask it nothing.
            altered = min(step.config.augmentation.copies, step.config.augmentation.most / max(1, len(rows)))
            stage = replace(stage, seconds=stage.seconds + forward * (1 + altered))
            asked = True
        stages_.append(stage)
        share *= _shrinks(step.config)
    return Plan(
        stages=tuple(stages_),
        train_rows=len(splits.train),
        validation_rows=len(splits.validation),
        tokens_per_text=tokens,
        truncation_rate=encoding.truncation_rate(splits.train.texts),
        # The teacher and the student with two moments each, and torch itself.
        memory_mb=900.0 + parameters * 4 * 5 / 1e6,
    )


def _stage(name: str, config: Any, forward: float, share: float = 1.0) -> PlannedStage:
    if name == "finetune":
        epochs = config.training.epochs
        return PlannedStage(
            name=name, what=f"train, up to {epochs:g} epochs", seconds=forward * _TRAIN_PASSES * epochs
        )
    if name == "distill":
        epochs = config.training.epochs
        seconds = forward * share * _shrinks(config) * _TRAIN_PASSES * epochs
        kept = "all layers" if config.layers is None else f"layers: {config.layers}"
        return PlannedStage(
            name=name, what=f"imitate the teacher, {epochs:g} epochs, {kept}", seconds=seconds
        )
    if name == "qat":
        epochs = config.distillation.training.epochs
        what = f"imitate the teacher with {config.weight_bits}-bit weights, {epochs:g} epochs"
        return PlannedStage(name=name, what=what, seconds=forward * share * _ROUNDED_PASSES * epochs)
    if name == "search":
        return _searching(config, forward)
    if name == "prune" and config.method == "obs":
        what = "remove what is needed least and refit the rest"
        return PlannedStage(name=name, what=what, seconds=120.0 if config.cost == "budget" else 40.0)
    what = {
        "prune": "remove what Fisher saliency finds least needed",
        "sparsify": "set weights to zero, and hold them there in what trains after it",
        "vocabulary": "remove vocabulary that the data does not use",
        "export": "write fp32 ONNX, check it against torch",
        "quantize": "make candidates, measure each, take the best",
        "tensorrt": "write the precision into the graph, build an engine, run nothing",
        "litert": "convert to LiteRT, compare with ONNX, pack it",
        "bundle": "pack what an app embeds",
        "bench": "score on the test split, time teacher and result interleaved",
        "report": "write report.html, report.md, report.json and the model card",
    }[name]
    return PlannedStage(name=name, what=what, seconds=_FIXED_SECONDS.get(name, 2.0))


def _searching(config: Any, forward: float) -> PlannedStage:
    """A search to its end: every stroke, and as many models trained to the end as is allowed."""
    share = 1.0
    seconds = forward  # the teacher is asked once
    for stroke in config.strokes:
        share *= _shrinks(stroke)
        seconds += _TRIAL_SECONDS + forward * share * _TRAIN_PASSES * config.recovery.training.epochs
    middle = share**0.5
    polish = _TRIAL_SECONDS + forward * middle * _TRAIN_PASSES * config.polish.training.epochs
    limit = config.time_limit_s
    seconds += polish * config.polished
    what = f"up to {len(config.strokes)} smaller and smaller models, then up to {config.polished} trained to the end"
    return PlannedStage(name="search", what=what, seconds=min(seconds, limit or seconds))


def _shrinks(config: Any) -> float:
    """Share of the compute that a step leaves, where its settings are shares."""
    left = 1.0
    for name in ("layers", "ffn"):
        value = getattr(config, name, None)
        if isinstance(value, float):
            left *= value if name == "layers" else (1 + 2 * value) / 3
    return left


def _encoder_size(model_dir: Path) -> tuple[float, float]:
    """Multiply-accumulates a token, and parameters."""
    from pocketformer.compress.inspect_model import inspect_model

    found = inspect_model(model_dir)
    return float(found.macs(1) or 0), float(found.parameters)


def _matmul_rate(threads: int) -> float:
    """Multiply-accumulates a second of a fp32 product of a small model's shape."""
    import torch

    torch.set_num_threads(threads)
    left, right = torch.rand(384, 384), torch.rand(384, 1536)
    rounds, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.2:
        left @ right
        rounds += 1
    return rounds * 384 * 384 * 1536 / (time.perf_counter() - started)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
