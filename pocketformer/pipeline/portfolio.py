"""All ways to make the graph that ships: each is made, scored on validation and timed; the measured best is taken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pocketformer.compress.encoding import TextEncoding, predict_logits
from pocketformer.compress.prune.drop_core import divergence
from pocketformer.pipeline.bench import run_in_batches
from pocketformer.pipeline.candidates import candidates_of
from pocketformer.pipeline.choice import Choice, Tried
from pocketformer.pipeline.fleet import places_of
from pocketformer.pipeline.session_tuning import TriedSettings, alternatives, tune
from pocketformer.runtime.engine import Engine, OnnxRuntimeEngine, open_engine
from pocketformer.runtime.errors import PocketformerError
from pocketformer.runtime.manifest import OPENVINO, EngineNeed, SessionSettings, graph_files
from pocketformer.runtime.metrics import score
from pocketformer.targets.measure import measure
from pocketformer.targets.saturation import count_clipped, u8s8_saturates
from pocketformer.targets.workloads import build_feeds, padded_feeds, workloads_within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pocketformer.compress.quantize.candidates import Candidate
    from pocketformer.pipeline.context import RunContext
    from pocketformer.pipeline.graph_stages import QuantizeConfig

log = logging.getLogger("pocketformer")

_ROUND_SHARES = {"real": 2.0, "1x32": 1.0, "1x128": 0.75, "8x128": 0.4}
_FINAL_ROUNDS = 3.0
_TEXTS_CHECKED = 32  # for products that overflow
_TEXTS_COMPARED = 64  # when it is asked what each product loses to int8
_SETTINGS_LIMIT_S = 5.0  # for each workload, when settings of the session are tried


class Portfolio:
    """The candidates of one run: made into ``work``, measured against the teacher's answers on validation.

    ``teacher_logits`` [texts, labels] are these answers where they are known already.
    """

    def __init__(
        self,
        config: QuantizeConfig,
        context: RunContext,
        graph: Path,
        work: Path,
        *,
        teacher_logits: Any = None,
    ) -> None:
        from pocketformer.compress.models import load_classifier

        if teacher_logits is not None:
            self.__dict__["teacher_logits"] = teacher_logits

        self._config = config
        self._context = context
        self._work = work
        self._work.mkdir(parents=True, exist_ok=True)
        self._model_dir = context.artefacts.need("model", verb="quantize")
        self._model = load_classifier(self._model_dir)
        self._encoding = TextEncoding(self._model_dir, context.recipe.max_length)
        self._exported = graph
        self._graphs: dict[str, Path] = {}
        splits = context.need_splits("quantize")
        self._classes = len(splits.label_names)
        self._labels = np.asarray(splits.validation.labels or (), dtype=np.int64)
        self._rows = self._encoding.encode(splits.validation.texts)

    @cached_property
    def teacher_metric(self) -> float | None:
        """The teacher's score on validation; None without validation labels."""
        return self._score(self.teacher_logits) if len(self._labels) else None

    @cached_property
    def teacher_logits(self) -> Any:
        """The teacher's answers to the validation texts, [texts, labels]."""
        from pocketformer.compress.models import load_classifier

        teacher_dir = self._context.artefacts.teacher or self._model_dir
        encoding = TextEncoding(teacher_dir, self._context.recipe.max_length)
        texts = self._context.need_splits("quantize").validation.texts
        return predict_logits(load_classifier(teacher_dir), encoding.encode(texts), encoding.pad_id)

    @cached_property
    def saturates(self) -> bool:
        """Whether products of 8-bit weights can overflow on this processor."""
        return bool(u8s8_saturates())

    def make(self, name: str, float_products: tuple[str, ...] = ()) -> Tried:
        """Make one candidate; its ``path`` is None and ``reason`` says why when it cannot be made.

        ``float_products``: names of the products that stay in float32, for a mixed one.
        """
        from pocketformer.compress.quantize.candidates import candidate_by_name
        from pocketformer.compress.quantize.portfolio import quantize_candidate
        from pocketformer.export.onnx_export import export_module

        candidate = candidate_by_name(name)
        left = f"-{len(float_products)}" if float_products else ""
        output = self._work / f"{name}{left}{candidate.suffix}"
        tried = Tried(
            name=name, precision=candidate.precision, engine=candidate.engine, float_products=float_products
        )
        try:
            self._prepare(candidate.graph)
            quantize_candidate(
                name,
                graphs=self._graphs,
                output=output,
                calibration=self._calibration if candidate.needs_calibration else (),
                model=self._model,
                export=export_module,
                float_products=float_products,
            )
            engine = self._engine(output, candidate.engine)
            metric = distance = None
            if len(self._labels):
                logits = run_in_batches(engine, self._rows, self._encoding.pad_id)
                metric, distance = self._score(logits), divergence(self.teacher_logits, logits)
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
        size = sum(part.stat().st_size for part in graph_files(output)) / 1e6
        local = self._local(output, candidate)
        return replace(
            tried, path=output, metric=metric, divergence=distance, file_mb=size, reason="made", local=local
        )

    def measure_all(self) -> list[Tried]:
        """Make, score and time every candidate; those that can be made are timed interleaved.

        The fastest are timed once more and for longer: kernels that are the same differ by several percent in
        a few rounds, which must not decide between them.
        """
        from pocketformer.compress.context import Progress

        places = places_of(self._context.recipe)
        wanted, left = candidates_of(self._config.candidates, places, saturates=self.saturates)
        tried: list[Tried] = []
        for index, candidate in enumerate(wanted, start=1):
            tried.append(self.make(candidate.name))
            self._context.listener.stage_progress(Progress(step=index, total=len(wanted) + 1))
        tried = [*self._timed([*tried, *self._more_careful(tried)]), *left]
        finalists = self.choice.finalists(tried)
        if len(finalists) < 2:
            return tried
        again = {c.name: c for c in self._timed(finalists, longer=_FINAL_ROUNDS)}
        return [again.get(c.name, c) for c in tried]

    def _more_careful(self, tried: Sequence[Tried]) -> list[Tried]:
        """Smoothed and mixed forms, where int8 alone costs more than the budget's drop."""
        from pocketformer.pipeline.bench import feeds_of_rows
        from pocketformer.pipeline.fallback import Fallback

        teacher, limit = self.teacher_metric, self._context.recipe.budget.max_drop
        if not self._config.fallback or teacher is None or limit is None:
            return []
        names = OnnxRuntimeEngine(self._exported, self._settings).input_names
        fallback = Fallback(
            keeps_drop=lambda metric: teacher - metric <= limit + 1e-9,
            graph=self._source,
            make=self.make,
            sample=feeds_of_rows(self._rows[:_TEXTS_COMPARED], self._encoding.pad_id, names),
            calibration=lambda: self._calibration,
            work=self._work,
            note=self._context.listener.note,
        )
        return fallback.forms(tried, self._float_metric)

    def _float_metric(self) -> float:
        """What the model itself scores on validation, before anything is quantized."""
        return self._score(predict_logits(self._model, self._rows, self._encoding.pad_id))

    def _source(self, candidate: Candidate) -> Path:
        """The fp32 file that a candidate's products are quantized from."""
        from pocketformer.compress.quantize.smoothing import smooth

        self._prepare(candidate.graph)
        graph = self._graphs[candidate.graph]
        if candidate.smoothing is None:
            return graph
        return smooth(graph, self._work / "smoothed.onnx", candidate.smoothing, self._calibration).output

    def time_against(self, candidate: Tried, graph: Path) -> tuple[Tried, Tried]:
        """A candidate timed once more, in turns with another model's ``graph``; both with their figures."""
        other = Tried(name="other", precision="fp32", path=graph)
        first, second = self._timed([candidate, other])
        return first, second

    @cached_property
    def choice(self) -> Choice:
        """The rules by which one candidate is taken."""
        return Choice(
            budget=self._context.recipe.budget,
            teacher_metric=self.teacher_metric,
            tokenizer_mb=(self._model_dir / "tokenizer.json").stat().st_size / 1e6,
            close=self._config.close,
            close_drop=self._config.close_drop,
        )

    def tune_session(self, chosen: Tried) -> tuple[dict[str, Any], list[TriedSettings]]:
        """The settings that suit the chosen candidate better than the usual ones, and all that were tried."""
        path, engine = chosen.path, chosen.engine
        if path is None:
            return {}, []

        def timing(settings: Mapping[str, SessionSettings], longer: float) -> dict[str, dict[str, float]]:
            engines = {name: self._engine(path, engine, value) for name, value in settings.items()}
            return self._latencies(engines, longer=longer, warmup=1, time_limit_s=_SETTINGS_LIMIT_S * longer)

        fixed = self._context.threads_fixed
        return tune(self._settings, alternatives(engine, self._context.threads, threads_fixed=fixed), timing)

    def _timed(self, tried: list[Tried], *, longer: float = 1.0) -> list[Tried]:
        engines = {c.name: self._engine(c.path, c.engine) for c in tried if c.path is not None}
        latencies = self._latencies(engines, longer=longer) if engines else {}
        return [replace(c, latency_ms=latencies.get(c.name, {})) for c in tried]

    def _latencies(
        self, engines: Mapping[str, Engine], *, longer: float, warmup: int = 4, time_limit_s: float = 30.0
    ) -> dict[str, dict[str, float]]:
        """p50 of all engines by workload, in ms, interleaved."""
        from pocketformer.compress.prune.positions import position_capacity

        latencies: dict[str, dict[str, float]] = {name: {} for name in engines}
        for workload in workloads_within(position_capacity(self._model)):
            feeds = build_feeds(workload, self._rows[:50] or [[self._encoding.pad_id]])
            calls: dict[str, Callable[[Any], object]] = {name: engine.run for name, engine in engines.items()}
            rounds = max(len(feeds), round(self._config.rounds * _ROUND_SHARES[workload.name] * longer))
            with self._context.timing():
                timed = measure(
                    calls, {workload.name: feeds}, rounds=rounds, warmup=warmup, time_limit_s=time_limit_s
                )
            for name, by_workload in timed.items():
                latencies[name][workload.name] = by_workload[workload.name].latency.p50
        return latencies

    def _local(self, path: Path, candidate: Candidate) -> str:
        """Why this graph's answers would be others on a processor whose products do not overflow; empty: they hold."""
        if not self.saturates or candidate.config is None:
            return ""
        if candidate.engine == OPENVINO:
            unsure = "its 8-bit products may overflow on this processor, and OpenVINO cannot check that"
            return "" if candidate.reduced else unsure
        rows = self._rows[:_TEXTS_CHECKED] or [[self._encoding.pad_id]]
        feeds = [padded_feeds([row], self._encoding.pad_id) for row in rows]
        clipped = count_clipped(path, feeds, self._settings)
        if clipped is None:
            return "its 8-bit products may overflow on this processor, and onnxruntime cannot check that"
        if clipped:
            return f"its 8-bit products overflow on this processor: {clipped} of {len(feeds)} texts get other logits"
        return ""

    @property
    def _settings(self) -> SessionSettings:
        return SessionSettings(intra_op_threads=self._context.threads)

    def _engine(self, path: Path, engine: str, settings: SessionSettings | None = None) -> Engine:
        return open_engine(path, settings or self._settings, EngineNeed(engine))

    def _score(self, logits: Any) -> float:
        return score(self._context.metric, self._labels, logits.argmax(-1), self._classes)

    def _prepare(self, kind: Literal["plain", "fused", "torch"]) -> None:
        """Make the graph that candidates of this kind start from, once; "torch" needs none."""
        from pocketformer.compress.models import structure_of

        if kind == "torch" or kind in self._graphs:
            return
        heads = [layer.heads for layer in structure_of(self._model).layers]
        hidden = int(self._model.config.hidden_size)
        self._graphs[kind] = deployable_graph(self._exported, self._work, kind, heads=heads, hidden=hidden)

    @cached_property
    def _calibration(self) -> list[dict[str, Any]]:
        from pocketformer.pipeline.bench import feeds_of_rows

        train = self._context.need_splits("quantize").train
        rows = self._encoding.encode(train.texts[: self._config.calibration])
        names = OnnxRuntimeEngine(self._exported, self._settings).input_names
        return feeds_of_rows(rows, self._encoding.pad_id, names)


def deployable_graph(
    exported: Path, work: Path, kind: Literal["plain", "fused"], *, heads: Sequence[int], hidden: int
) -> Path:
    """The fp32 graph that candidates of this kind start from, written into ``work``.

    Fused it has onnxruntime's attention; either way its last layer computes only what the classification head reads,
    and an embedding table of low rank stands in it as two factors.
    """
    from pocketformer.export.factored_tables import factor_tables
    from pocketformer.export.first_position import compute_first_position_only
    from pocketformer.export.fuse import fuse_for_onnxruntime
    from pocketformer.export.sliced_positions import slice_positions

    graph = exported
    if kind == "fused":
        # The tables are quantized apart, which needs their look-ups as single nodes.
        graph = fuse_for_onnxruntime(
            exported, work / "fused.onnx", heads=heads, hidden_size=hidden, fuse_embeddings=False
        ).output
    for rewrite in (factor_tables, slice_positions):
        rewritten = rewrite(graph, work / f"{kind}-{rewrite.__name__}.onnx")
        graph = graph if rewritten is None else rewritten.output
    try:
        return compute_first_position_only(graph, work / f"{kind}-first-position.onnx").output
    except PocketformerError as error:  # the graph as it is answers the same, only later
        log.warning("%s", error)
        return graph
