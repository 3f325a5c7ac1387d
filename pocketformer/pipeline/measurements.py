"""One bench: put the contenders together, measure them, and write down all that the report needs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.pipeline import bench
from pocketformer.runtime.errors import DataError, ExportError, ParityError
from pocketformer.runtime.metrics import bootstrap_interval, score
from pocketformer.targets.measure import measure
from pocketformer.targets.workloads import REAL, WORKLOADS, build_feeds, workloads_within

if TYPE_CHECKING:
    from pocketformer.pipeline.context import RunContext
    from pocketformer.pipeline.deliver_stages import BenchConfig

log = logging.getLogger("pocketformer")


def measure_bundle(config: BenchConfig, context: RunContext, folder: Path) -> dict[str, Any]:
    """Everything measured on this machine, in the words of report.json."""
    from pocketformer.compress.encoding import TextEncoding
    from pocketformer.compress.models import load_classifier
    from pocketformer.compress.prune.positions import position_capacity

    splits = context.need_splits("bench")
    classes = len(splits.label_names)
    teacher_dir = context.artefacts.need("teacher", verb="bench")
    bundle = context.artefacts.need("bundle", verb="bench")
    work = folder / "work"
    work.mkdir(exist_ok=True)

    answers, torch_call, model = bench.torch_contender(teacher_dir, context)
    evaluation = bench.held_out(context, answers)
    parameters = sum(p.numel() for p in model.parameters())
    encoding = TextEncoding(teacher_dir, context.recipe.max_length)
    encoded = encoding.encode(evaluation.texts)
    teacher = bench.Contender(
        name="torch_eager",
        logits=answers(evaluation.texts),
        call=torch_call,
        token_ids=encoded,
        file_mb=_weights_mb(teacher_dir),
        parameters=parameters,
    )
    # An exporter may change the attention of the model that it is given: it gets one of its own.
    teacher_graph = _export(load_classifier(teacher_dir), teacher_dir, work / "teacher.onnx", context)
    teacher_onnx = bench.onnx_contender(
        teacher_graph, "onnxruntime_fp32", encoded, encoding.pad_id, context.threads, parameters
    )
    shrunk = load_classifier(context.artefacts.need("model", verb="bench"))
    result, runtime = bench.bundle_contender(bundle, evaluation, sum(p.numel() for p in shrunk.parameters()))
    contenders = [teacher, teacher_onnx, result]
    workloads = workloads_within(min(position_capacity(model), position_capacity(shrunk)))
    timings = bench.time_contenders(
        contenders, workloads, config.rounds, lambda name: context.listener.note(f"timing {name}")
    )

    judged = evaluation.basis == "labels"
    skipped = [w.name for w in WORKLOADS if w not in workloads]
    notes = [f"{name}: not measured, the model takes fewer tokens" for name in skipped]
    loadgen: dict[str, Any] | None = None
    if config.loadgen_s > 0:
        loadgen, why = bench.drive_loadgen(result, runtime.manifest.preprocessing.pad_id, config.loadgen_s)
        notes += [why] if why else []
    own = bench.measurement(result, evaluation, timings["result"], classes)
    own |= bench.against_teacher(result, teacher, evaluation, classes)
    own |= bench.time_pipeline(runtime, evaluation.texts, config.rounds)
    baselines = {
        c.name: bench.measurement(c, evaluation, timings[c.name], classes, judged=judged)
        for c in (teacher, teacher_onnx)
    }
    _add_cold_starts(config, context, own, baselines["torch_eager"], bundle, teacher_dir, evaluation.texts[0])
    return {
        "evaluation": {
            "split": evaluation.split,
            "basis": evaluation.basis,
            "rows": len(evaluation.texts),
            "metric": evaluation.metric,
            "audit": evaluation.audit,
        },
        "device": {
            "name": context.recipe.targets[0],
            "status": "measured",
            "threads": context.threads,
            "baselines": baselines,
            "result": own,
            "loadgen": loadgen,
            "bundle": _bundle_info(bundle, runtime, context),
            "notes": notes,
        },
        "per_class": bench.class_rows(result, evaluation, splits.label_names) if judged else [],
        "flipped_examples": bench.flipped_examples(result, teacher, evaluation, splits.label_names),
        "references": _references(context, evaluation) if judged else {},
        "step_latency_ms": _step_latencies(config, context, work, teacher_graph, teacher, result, evaluation),
        "truncation_rate": encoding.truncation_rate(splits.train.texts),
    }


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
        "path": f"bundles/{context.recipe.targets[0]}",
        "precision": manifest.precision,
        "files_mb": {p.name: p.stat().st_size / 1e6 for p in sorted(path.iterdir()) if p.is_file()},
        "settings": dict(vars(manifest.session)),
    }


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
