"""One bench: put the contenders together, measure them, and write down all that the report needs."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.pipeline import bench
from pocketformer.pipeline.devices import Answered, Subject, measure_devices
from pocketformer.pipeline.expectations import expectations
from pocketformer.pipeline.fleet import Place, places_of, resolve_places
from pocketformer.runtime.backends.openvino import OPENVINO_PROVIDER
from pocketformer.runtime.errors import DataError, ExportError, ParityError
from pocketformer.runtime.manifest import CPU_PROVIDER, ONNXRUNTIME
from pocketformer.runtime.metrics import bootstrap_interval, score
from pocketformer.targets.agent.device import package_versions, throttling
from pocketformer.targets.measure import measure
from pocketformer.targets.workloads import REAL, WORKLOADS, build_feeds, workloads_within

if TYPE_CHECKING:
    from pocketformer.pipeline.context import RunContext
    from pocketformer.pipeline.deliver_stages import BenchConfig
    from pocketformer.runtime.model import Model

log = logging.getLogger("pocketformer")

_ROOT = Path("/")
_WHOLE = ((CPU_PROVIDER,), (OPENVINO_PROVIDER,))


def measure_bundle(config: BenchConfig, context: RunContext, folder: Path) -> dict[str, Any]:
    """Everything measured, on this machine and on the other targets, in the words of report.json.

    Devices that an earlier run of the same stage measured are not measured again.
    """
    places = resolve_places(context.recipe.targets, config.devices)
    earlier = _earlier(context, folder)
    done = {row["name"]: row for row in earlier.get("devices", ()) if row["status"] != "failed"}
    bench_here = _Here(config, context, folder)
    values = bench_here.evaluation_facts()
    here = next((place for place in places if place.way == "here"), None)
    answered: dict[str, Answered] = {}
    if here is not None and here.name not in done:
        row, logits = bench_here.measure(here)
        answered[here.name] = Answered(row=row, logits=logits)
        values |= bench_here.about_steps()
    others = [place for place in places if place.way != "here" and place.name not in done]
    if others:
        answered |= measure_devices(others, bench_here.subject(), context, folder / "engines")
    names = [place.name for place in places]
    values["devices"] = [done[name] if name in done else answered[name].row for name in names]
    first = next(
        (answered[n].logits for n in names if n in answered and answered[n].logits is not None), None
    )
    values |= bench_here.answers_in_detail(first)
    # What was found on devices that are not measured again stands.
    kept = ("per_class", "flipped_examples", "step_latency_ms", "teacher")
    return values | ({name: earlier[name] for name in kept} if done else {})


def _earlier(context: RunContext, folder: Path) -> dict[str, Any]:
    """What this stage measured in an earlier run in which a device failed; empty when there is none."""
    if context.earlier is None:
        return {}
    engines = context.earlier / "engines"
    if engines.is_dir():
        shutil.copytree(engines, folder / "engines")
    earlier: dict[str, Any] = json.loads((context.earlier / "measurements.json").read_text(encoding="utf-8"))
    for row in earlier["devices"]:
        if row["status"] == "failed":
            shutil.rmtree(folder / "engines" / row["name"], ignore_errors=True)
    return earlier


class _Here:
    """The bench on this machine: what all devices are held against, and this machine's own figures."""

    def __init__(self, config: BenchConfig, context: RunContext, folder: Path) -> None:
        from pocketformer.compress.encoding import TextEncoding
        from pocketformer.compress.models import load_classifier

        self._config = config
        self._context = context
        self._splits = context.need_splits("bench")
        self._classes = len(self._splits.label_names)
        self._teacher_dir = context.artefacts.need("teacher", verb="bench")
        self._bundle = context.artefacts.need("bundle", verb="bench")
        self._work = folder / "work"
        self._work.mkdir(exist_ok=True)
        answers, call, self._model = bench.torch_contender(self._teacher_dir, context)
        self._evaluation = bench.held_out(context, answers)
        self._encoding = TextEncoding(self._teacher_dir, context.recipe.max_length)
        self._teacher = bench.Contender(
            name="torch_eager",
            logits=answers(self._evaluation.texts),
            call=call,
            token_ids=self._encoding.encode(self._evaluation.texts),
            file_mb=_weights_mb(self._teacher_dir),
            parameters=sum(p.numel() for p in self._model.parameters()),
        )
        self._shrunk = load_classifier(context.artefacts.need("model", verb="bench"))
        self._parameters = sum(p.numel() for p in self._shrunk.parameters())

    def evaluation_facts(self) -> dict[str, Any]:
        """The held-out rows, and the teacher and the classical baseline on them."""
        evaluation, judged = self._evaluation, self._evaluation.basis == "labels"
        return {
            "evaluation": {
                "split": evaluation.split,
                "basis": evaluation.basis,
                "rows": len(evaluation.texts),
                "metric": evaluation.metric,
                "audit": evaluation.audit,
            },
            "teacher": bench.measurement(self._teacher, evaluation, {}, self._classes, judged=judged),
            "references": _references(self._context, evaluation) if judged else {},
            "step_latency_ms": {},
            "truncation_rate": self._encoding.truncation_rate(self._splits.train.texts),
        }

    def subject(self) -> Subject:
        """What other devices measure, and what their answers are held against."""
        return Subject(
            bundle=self._bundle,
            evaluation=self._evaluation,
            teacher=self._teacher,
            classes=self._classes,
            parameters=self._parameters,
            file_mb=bench.bundle_mb(self._bundle),
            rounds=self._config.rounds,
            loadgen_s=self._config.loadgen_s,
        )

    def measure(self, place: Place) -> tuple[dict[str, Any], Any]:
        """This machine's row, teacher and result interleaved, and the result's logits."""
        from pocketformer.compress.models import load_classifier
        from pocketformer.compress.prune.positions import position_capacity

        context, config, evaluation = self._context, self._config, self._evaluation
        before = throttling(_ROOT)
        # An exporter may change the attention of the model that it is given: it gets one of its own.
        self._teacher_graph = _export(
            load_classifier(self._teacher_dir), self._teacher_dir, self._work / "teacher.onnx", context
        )
        teacher_onnx = bench.onnx_contender(
            self._teacher_graph,
            "onnxruntime_fp32",
            self._teacher.token_ids,
            self._encoding.pad_id,
            context.threads,
            self._teacher.parameters,
        )
        result, runtime = bench.bundle_contender(self._bundle, evaluation, self._parameters)
        self._result = result
        workloads = workloads_within(min(position_capacity(self._model), position_capacity(self._shrunk)))
        timings = bench.time_contenders(
            [self._teacher, teacher_onnx, result],
            workloads,
            config.rounds,
            lambda name: context.listener.note(f"timing {name}"),
        )
        skipped = [w.name for w in WORKLOADS if w not in workloads]
        notes = [f"{name}: not measured, the model takes fewer tokens" for name in skipped]
        expected, missing = expectations(
            config, context, runtime, self._shrunk, result.token_ids, timings["result"]
        )
        notes += missing
        loadgen: dict[str, Any] | None = None
        if config.loadgen_s > 0:
            pad_id = runtime.manifest.preprocessing.pad_id
            loadgen, why = bench.drive_loadgen(result, pad_id, config.loadgen_s)
            notes += [why] if why else []
        own = bench.measurement(result, evaluation, timings["result"], self._classes)
        own |= bench.against_teacher(result, self._teacher, evaluation, self._classes)
        own |= bench.time_pipeline(runtime, evaluation.texts, config.rounds)
        judged = evaluation.basis == "labels"
        baselines = {
            c.name: bench.measurement(c, evaluation, timings[c.name], self._classes, judged=judged)
            for c in (self._teacher, teacher_onnx)
        }
        self._baseline = baselines["onnxruntime_fp32"]
        torch_eager, text = baselines["torch_eager"], evaluation.texts[0]
        _add_cold_starts(config, context, own, torch_eager, self._bundle, self._teacher_dir, text)
        signs = [f"before measuring, {sign}" for sign in before]
        signs += [f"after measuring, {sign}" for sign in throttling(_ROOT)]
        row = {
            "name": place.name,
            "status": "measured",
            "threads": context.threads,
            **expected,
            "baselines": baselines,
            "result": own,
            "loadgen": loadgen,
            "bundle": _bundle_info(self._bundle, runtime, context),
            "versions": {
                "python": platform.python_version(),
                **_present(package_versions()),
                **_engine(runtime),
            },
            # Either engine runs the whole graph on the processor or refuses it.
            "fallback_operators": {} if runtime.engine.providers in _WHOLE else None,
            "warnings": signs,
            "notes": notes,
        }
        return row, result.logits

    def about_steps(self) -> dict[str, Any]:
        """Latency after each step, and the teacher in onnxruntime that the steps begin with; after ``measure``."""
        latencies = _step_latencies(
            self._config,
            self._context,
            self._work,
            self._teacher_graph,
            self._teacher,
            self._result,
            self._evaluation,
        )
        return {"step_latency_ms": latencies, "teacher": self._baseline}

    def answers_in_detail(self, logits: Any | None) -> dict[str, Any]:
        """Class by class, and the rows answered differently, of the first device that answered."""
        if logits is None:
            return {"per_class": [], "flipped_examples": []}
        evaluation, names = self._evaluation, self._splits.label_names
        result = replace(self._teacher, name="result", logits=logits)
        judged = evaluation.basis == "labels"
        return {
            "per_class": bench.class_rows(result, evaluation, names) if judged else [],
            "flipped_examples": bench.flipped_examples(result, self._teacher, evaluation, names),
        }


def _present(versions: Mapping[str, str | None]) -> dict[str, str]:
    return {name: version for name, version in versions.items() if version is not None}


def _engine(model: Model) -> dict[str, str]:
    """The engine of a bundle by its version, where it is not onnxruntime, which all versions hold."""
    need = model.manifest.engine.name
    return {} if need == ONNXRUNTIME else {need: metadata.version(need)}


def _export(model: Any, model_dir: Path, path: Path, context: RunContext) -> Path:
    from pocketformer.pipeline.graph_stages import export_plain

    return export_plain(model, model_dir, path, exporter=None, context=context)[0]


def _weights_mb(model_dir: Path) -> float:
    weights = [p for p in model_dir.iterdir() if p.suffix in (".safetensors", ".bin")]
    return sum(p.stat().st_size for p in weights) / 1e6


def _add_cold_starts(
    config: BenchConfig,
    context: RunContext,
    result: dict[str, Any],
    teacher: dict[str, Any],
    bundle: Path,
    teacher_dir: Path,
    text: str,
) -> None:
    from pocketformer.targets.process import cold_start_bundle, cold_start_torch

    if config.cold_starts == 0:
        return
    result |= bench.cold_start(cold_start_bundle(bundle, text, config.cold_starts))
    # PyTorch starts for many seconds, beside which noise is little: once is enough.
    teacher |= bench.cold_start(cold_start_torch(teacher_dir, text, 1, threads=context.threads))


def _bundle_info(path: Path, model: Any, context: RunContext) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "path": _bundle_path(path, context),
        "precision": manifest.precision,
        "files_mb": {p.name: p.stat().st_size / 1e6 for p in sorted(path.iterdir()) if p.is_file()},
        "settings": dict(vars(manifest.session)),
    }


def _bundle_path(path: Path, context: RunContext) -> str:
    """Where the bundle lies for who holds the run directory: this run's own, or that of the run before."""
    if any(record["name"] == "bundle" for record in context.records):
        return f"bundles/{places_of(context.recipe)[0].name}"
    return os.path.relpath(path, context.directory.path)


def _references(context: RunContext, evaluation: bench.Evaluation) -> dict[str, Any]:
    """The classical baseline on the same held-out rows."""
    from pocketformer.compress.classical import tfidf_predictions

    splits = context.need_splits("bench")
    try:
        predictions = tfidf_predictions(splits.train, evaluation.texts, seed=context.recipe.seed)
    except DataError as error:
        return {"tfidf_logistic_regression": {"metric": None, "note": error.message}}
    classes = len(splits.label_names)
    return {
        "tfidf_logistic_regression": {
            "metric": score(evaluation.metric, evaluation.labels, predictions, classes),
            "metric_ci95": list(
                bootstrap_interval(evaluation.metric, evaluation.labels, predictions, classes)
            ),
            "note": "TF-IDF of words and word pairs, logistic regression, fitted on the train split",
        }
    }


def _step_latencies(
    config: BenchConfig,
    context: RunContext,
    work: Path,
    teacher_graph: Path,
    teacher: bench.Contender,
    result: bench.Contender,
    evaluation: bench.Evaluation,
) -> dict[str, float]:
    """p50 on real inputs of the model after each step, all in fp32 onnxruntime and interleaved, in ms by stage index.

    Key "0" is the teacher and "result" what ships. A step whose model cannot be exported has no figure.
    """
    graphs: dict[str, tuple[Path, Path]] = {
        "0": (teacher_graph, context.artefacts.need("teacher", verb="bench"))
    }
    for record in context.records:
        if record["artefacts"].get("model") and record["name"] != "finetune":
            folder = context.directory.stage_path(record["index"], record["name"]) / "model"
            try:
                graphs[str(record["index"])] = (_export_step(folder, work, record["index"], context), folder)
            except (ExportError, ParityError) as error:
                log.warning("step %s has no latency: %s", record["name"], error)
    candidates: dict[str, Any] = {}
    for name, (graph, folder) in graphs.items():
        candidates[name] = _real_calls(graph, folder, evaluation, context)
    feeds = build_feeds(REAL, result.token_ids)
    candidates["result"] = lambda index: result.call(feeds[index])
    count = min(len(feeds), len(teacher.token_ids), 50)
    timed = measure(
        candidates, {"real": list(range(count))}, rounds=max(count, config.rounds), time_limit_s=30.0
    )
    return {name: by["real"].latency.p50 for name, by in timed.items()}


def _export_step(folder: Path, work: Path, index: int, context: RunContext) -> Path:
    from pocketformer.compress.models import load_classifier

    return _export(load_classifier(folder), folder, work / f"step-{index}.onnx", context)


def _real_calls(graph: Path, folder: Path, evaluation: bench.Evaluation, context: RunContext) -> Any:
    from pocketformer.compress.encoding import TextEncoding
    from pocketformer.runtime.engine import OnnxRuntimeEngine
    from pocketformer.runtime.manifest import SessionSettings

    engine = OnnxRuntimeEngine(graph, SessionSettings(intra_op_threads=context.threads))
    rows = TextEncoding(folder, context.recipe.max_length).encode(evaluation.texts[:50])
    feeds = build_feeds(REAL, rows)
    return lambda index: engine.run(feeds[index])
