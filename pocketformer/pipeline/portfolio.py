"""All ways to make the graph that ships: each is made, scored on validation and timed; the measured best is taken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.encoding import TextEncoding, bucketed_batches, predict_logits
from pocketformer.pipeline.bench import run_in_batches
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import InputError, PocketformerError
from pocketformer.runtime.manifest import SessionSettings
from pocketformer.runtime.metrics import score
from pocketformer.targets.measure import measure
from pocketformer.targets.workloads import build_feeds, workloads_within

if TYPE_CHECKING:
    from pocketformer.pipeline.context import RunContext
    from pocketformer.pipeline.graph_stages import QuantizeConfig

log = logging.getLogger("pocketformer")

_ROUND_SHARES = {"real": 2.0, "1x32": 1.0, "1x128": 0.75, "8x128": 0.4}


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One candidate: its file (None when it could not be made), what was measured, and why it was or was not taken."""

    name: str
    precision: str
    path: Path | None = None
    reason: str = ""
    metric: float | None = None
    file_mb: float = 0.0
    latency_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """Geometric mean of the medians over the workloads, in ms: no workload may be bought with another."""
        return (
            float(np.exp(np.mean(np.log(list(self.latency_ms.values())))))
            if self.latency_ms
            else float("inf")
        )

    def to_dict(self, *, taken: bool) -> dict[str, Any]:
        """As report.json has a candidate."""
        return {
            "name": self.name,
            "stage": "quantize",
            "taken": taken,
            "reason": self.reason,
            "metric": self.metric,
            "file_mb": self.file_mb or None,
            "latency_ms": dict(self.latency_ms),
        }


class Portfolio:
    """The candidates of one run: made into ``work``, measured against the teacher's validation score."""

    def __init__(self, config: QuantizeConfig, context: RunContext, graph: Path, work: Path) -> None:
        from pocketformer.compress.models import load_classifier

        self._config = config
        self._context = context
        self._work = work
        self._work.mkdir(parents=True, exist_ok=True)
        self._model_dir = context.artefacts.need("model", verb="quantize")
        self._model = load_classifier(self._model_dir)
        self._encoding = TextEncoding(self._model_dir, context.recipe.max_length)
        self._graphs: dict[str, Path] = {"plain": graph}
        splits = context.need_splits("quantize")
        self._classes = len(splits.label_names)
        self._labels = np.asarray(splits.validation.labels or (), dtype=np.int64)
        self._rows = self._encoding.encode(splits.validation.texts)

    @cached_property
    def teacher_metric(self) -> float | None:
        """The teacher's score on validation; None without validation labels."""
        from pocketformer.compress.models import load_classifier

        if len(self._labels) == 0:
            return None
        teacher_dir = self._context.artefacts.teacher or self._model_dir
        encoding = TextEncoding(teacher_dir, self._context.recipe.max_length)
        texts = self._context.need_splits("quantize").validation.texts
        logits = predict_logits(load_classifier(teacher_dir), encoding.encode(texts), encoding.pad_id)
        return self._score(logits)

    def names(self) -> tuple[str, ...]:
        """The candidates of this run; ``InputError`` for a name that does not exist."""
        from pocketformer.compress.quantize.portfolio import candidate_by_name

        return tuple(candidate_by_name(name).name for name in self._config.candidates)

    def make(self, name: str) -> Tried:
        """Make one candidate; its ``path`` is None and ``reason`` says why when it cannot be made."""
        from pocketformer.compress.quantize.portfolio import candidate_by_name, quantize_candidate
        from pocketformer.export.onnx_export import export_module

        candidate = candidate_by_name(name)
        output = self._work / f"{name}.onnx"
        tried = Tried(name=name, precision=candidate.precision)
        try:
            if candidate.graph == "fused":
                self._fuse()
            quantize_candidate(
                name,
                graphs=self._graphs,
                output=output,
                calibration=self._calibration if candidate.needs_calibration else (),
                model=self._model,
                export=export_module,
            )
            engine = self._engine(output)
            metric = (
                self._score(run_in_batches(engine, self._rows, self._encoding.pad_id))
                if len(self._labels)
                else None
            )
        except OSError:
            raise  # a full disk is no candidate's fault
        except PocketformerError as error:
            log.warning("candidate %s: %s", name, error)
            # A report travels: it does not tell where on this machine the run was.
            message = error.message.replace(f"{self._context.directory.path}/", "")
            return replace(tried, reason=f"could not be made: {message}")
        except Exception as error:
            log.warning("candidate %s failed", name, exc_info=True)
            return replace(tried, reason=f"could not be made: {type(error).__name__}: {str(error)[:200]}")
        return replace(tried, path=output, metric=metric, file_mb=output.stat().st_size / 1e6, reason="made")

    def measure_all(self) -> list[Tried]:
        """Make, score and time every candidate; those that can be made are timed interleaved."""
        from pocketformer.compress.context import Progress

        names = self.names()
        tried: list[Tried] = []
        for index, name in enumerate(names, start=1):
            tried.append(self.make(name))
            self._context.listener.stage_progress(Progress(step=index, total=len(names) + 1))
        return self._timed(tried)

    def choose(self, tried: Sequence[Tried]) -> Tried:
        """The fastest that keeps the budget on validation; among equally fast ones the smallest.

        When none keeps it, the one that drops least. The reasons are written by ``explain``.
        """
        usable = [candidate for candidate in tried if candidate.path is not None]
        if not usable:
            raise InputError("no candidate could be made", hint="See log.txt in the run directory.")
        fitting = [candidate for candidate in usable if not self._excess(candidate)]
        if not fitting:
            return max(usable, key=lambda c: (c.metric if c.metric is not None else 0.0, -c.speed))
        fastest = min(candidate.speed for candidate in fitting)
        close = [c for c in fitting if c.speed <= fastest * (1 + self._config.close)]
        best = max(c.metric or 0.0 for c in close)
        spare = self._config.close_drop * self._context.recipe.budget.max_drop
        accurate = [c for c in close if (c.metric or 0.0) >= best - spare - 1e-9]
        return min(accurate, key=lambda c: (c.file_mb, c.speed))

    def explain(self, tried: Sequence[Tried], chosen: Tried) -> list[Tried]:
        """The candidates with the reason why each was or was not taken."""
        explained = []
        for candidate in tried:
            if candidate.path is not None:
                candidate = replace(candidate, reason=self._reason(candidate, chosen))
            explained.append(candidate)
        return explained

    def _reason(self, candidate: Tried, chosen: Tried) -> str:
        excess = self._excess(candidate)
        if candidate.name == chosen.name:
            if excess:
                return f"none kept the budget on validation; this one comes closest ({excess})"
            return "within the budget on validation; of the fastest the smallest that is as accurate"
        if excess:
            return excess
        if candidate.speed > chosen.speed * (1 + self._config.close):
            return f"{candidate.speed / chosen.speed:.2f} times the time of what was taken"
        if candidate.file_mb >= chosen.file_mb:
            return f"about as fast as what was taken, and {candidate.file_mb - chosen.file_mb:.1f} MB larger"
        return f"smaller, but {((chosen.metric or 0) - (candidate.metric or 0)) * 100:.1f} points below what was taken"

    def _excess(self, candidate: Tried) -> str:
        """Which limit of the budget a candidate breaks on validation, or nothing."""
        budget = self._context.recipe.budget
        if candidate.metric is not None and self.teacher_metric is not None:
            drop = self.teacher_metric - candidate.metric
            if drop > budget.max_drop + 1e-9:
                return f"drops {drop * 100:.1f} points on validation, {budget.max_drop * 100:.1f} are allowed"
        latency = candidate.latency_ms.get("real")
        if budget.max_latency_ms is not None and latency is not None and latency > budget.max_latency_ms:
            return f"takes {latency:.2f} ms, {budget.max_latency_ms:g} are allowed"
        tokenizer_mb = (self._model_dir / "tokenizer.json").stat().st_size / 1e6
        size = candidate.file_mb + tokenizer_mb
        if budget.max_size_mb is not None and size > budget.max_size_mb:
            return f"weighs {size:.1f} MB with its tokenizer, {budget.max_size_mb:g} are allowed"
        return ""

    def _timed(self, tried: list[Tried]) -> list[Tried]:
        from pocketformer.compress.prune.positions import position_capacity

        engines = {c.name: self._engine(c.path) for c in tried if c.path is not None}
        latencies: dict[str, dict[str, float]] = {name: {} for name in engines}
        for workload in workloads_within(position_capacity(self._model)):
            feeds = build_feeds(workload, self._rows[:50] or [[self._encoding.pad_id]])
            calls: dict[str, Callable[[Any], object]] = {name: engine.run for name, engine in engines.items()}
            rounds = max(len(feeds), round(self._config.rounds * _ROUND_SHARES[workload.name]))
            timed = measure(calls, {workload.name: feeds}, rounds=rounds, time_limit_s=30.0)
            for name, by_workload in timed.items():
                latencies[name][workload.name] = by_workload[workload.name].latency.p50
        return [replace(c, latency_ms=latencies.get(c.name, {})) for c in tried]

    def _engine(self, path: Path) -> OnnxRuntimeEngine:
        return OnnxRuntimeEngine(path, SessionSettings(intra_op_threads=self._context.threads))

    def _score(self, logits: Any) -> float:
        return score(self._context.metric, self._labels, logits.argmax(-1), self._classes)

    def _fuse(self) -> None:
        from pocketformer.compress.models import structure_of
        from pocketformer.export.fuse import fuse_for_onnxruntime

        if "fused" in self._graphs:
            return
        heads = [layer.heads for layer in structure_of(self._model).layers]
        fused = fuse_for_onnxruntime(
            self._graphs["plain"],
            self._work / "fused.onnx",
            heads=heads,
            hidden_size=int(self._model.config.hidden_size),
            # The tables are quantized apart, which needs their look-ups as single nodes.
            fuse_embeddings=False,
        )
        self._graphs["fused"] = fused.output

    @cached_property
    def _calibration(self) -> list[dict[str, Any]]:
        from pocketformer.pipeline.bench import padded_feeds

        train = self._context.need_splits("quantize").train
        rows = self._encoding.encode(train.texts[: self._config.calibration])
        names = set(self._engine(self._graphs["plain"]).input_names)
        return [
            {
                name: values
                for name, values in padded_feeds([rows[i] for i in batch], self._encoding.pad_id).items()
                if name in names
            }
            for batch in bucketed_batches([len(row) for row in rows], 8)
        ]
