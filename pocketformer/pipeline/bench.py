"""Measuring what ships: scores on the held-out split, latency interleaved with the teacher's, cold start, LoadGen.

The test split is read here for the first time, when every choice has been made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.pipeline.inputs import data_config
from pocketformer.runtime.engine import Engine, OnnxRuntimeEngine
from pocketformer.runtime.errors import PocketformerError
from pocketformer.runtime.manifest import SessionSettings, graph_files, read_manifest
from pocketformer.runtime.metrics import (
    bootstrap_interval,
    flips,
    paired_drop,
    per_class,
    score,
    wilson_interval,
)
from pocketformer.runtime.model import Model, load
from pocketformer.targets.measure import WorkloadTiming, measure
from pocketformer.targets.workloads import (
    REAL_INPUTS,
    WORKLOADS,
    Feeds,
    Workload,
    build_feeds,
    padded_feeds,
    rounds_of,
)

if TYPE_CHECKING:
    from pocketformer.pipeline.context import RunContext

log = logging.getLogger("pocketformer")

Call = Callable[[Feeds], object]
_SHOWN_FLIPS = 25


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The held-out rows: texts, labels (the teacher's answers where ``basis`` is "teacher")."""

    split: str
    basis: str
    texts: tuple[str, ...]
    labels: np.ndarray[Any, np.dtype[np.int64]]
    metric: str
    audit: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One model in the comparison: what it answers, what a call costs, what it weighs."""

    name: str
    logits: np.ndarray[Any, np.dtype[np.float32]]
    call: Call
    token_ids: Sequence[Sequence[int]]
    file_mb: float
    parameters: int

    @property
    def predictions(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The label index of each held-out row."""
        return np.asarray(self.logits.argmax(-1), dtype=np.int64)


def held_out(
    context: RunContext, teacher_answers: Callable[[Sequence[str]], np.ndarray[Any, Any]]
) -> Evaluation:
    """Read the test split; without one the validation texts, without labels the teacher's answers."""
    from pocketformer.compress.data import read_test

    splits = context.need_splits("bench")
    recipe = context.recipe
    if recipe.data is not None and recipe.data.test is not None:
        test = read_test(data_config(recipe), splits.label_names)
        texts, labels, split = test.texts, test.labels, "test"
        audit = {"rows": len(test), "duplicates_removed": test.duplicates_removed}
        audit["conflicting_labels_removed"] = test.conflicting_labels_removed
    else:
        texts, labels, split, audit = (
            splits.validation.texts,
            None,
            "validation",
            {"rows": len(splits.validation)},
        )
    if labels is None or context.metric == "agreement":
        answers = np.asarray(teacher_answers(texts).argmax(-1), dtype=np.int64)
        return Evaluation(
            split=split, basis="teacher", texts=texts, labels=answers, metric="accuracy", audit=audit
        )
    return Evaluation(
        split=split,
        basis="labels",
        texts=texts,
        labels=np.asarray(labels, dtype=np.int64),
        metric=context.metric,
        audit=audit,
    )


def torch_contender(model_dir: Path, context: RunContext) -> tuple[Callable[[Sequence[str]], Any], Call, Any]:
    """(texts to logits, feeds to a timed call, the model) of a directory in PyTorch eager."""
    import torch

    from pocketformer.compress.encoding import TextEncoding, predict_logits
    from pocketformer.compress.models import load_classifier

    model = load_classifier(model_dir)
    encoding = TextEncoding(model_dir, context.recipe.max_length)
    wanted = {"input_ids", "attention_mask"}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        wanted.add("token_type_ids")

    def answers(texts: Sequence[str]) -> Any:
        return predict_logits(model, encoding.encode(texts), encoding.pad_id)

    def call(feeds: Feeds) -> object:
        with torch.inference_mode():
            return model(**{name: torch.from_numpy(feeds[name]) for name in wanted}).logits

    return answers, call, model


def time_contenders(
    contenders: Sequence[Contender],
    workloads: Sequence[Workload],
    rounds: int,
    on_workload: Callable[[str], None],
) -> dict[str, dict[str, WorkloadTiming]]:
    """Latency of all contenders on ``workloads``, interleaved; each is fed its own tokens of the same texts."""
    timings: dict[str, dict[str, WorkloadTiming]] = {c.name: {} for c in contenders}
    for workload in workloads:
        on_workload(workload.name)
        feeds = {c.name: build_feeds(workload, c.token_ids[:REAL_INPUTS]) for c in contenders}
        count = min(map(len, feeds.values()))
        calls = {c.name: _indexed(c.call, feeds[c.name]) for c in contenders}
        timed = measure(
            calls,
            {workload.name: list(range(count))},
            rounds=rounds_of(workload.name, rounds, count),
            time_limit_s=60.0,
        )
        for name, by_workload in timed.items():
            timings[name] |= by_workload
    return timings


def _indexed(call: Call, feeds: Sequence[Feeds]) -> Callable[[int], object]:
    return lambda index: call(feeds[index])


def measurement(
    contender: Contender,
    evaluation: Evaluation,
    timings: Mapping[str, WorkloadTiming],
    classes: int,
    *,
    judged: bool = True,
) -> dict[str, Any]:
    """One contender as report.json has it. ``judged`` False: its answers are the yardstick, not measured."""
    labels, predictions = evaluation.labels, contender.predictions
    value = score(evaluation.metric, labels, predictions, classes) if judged else None
    return {
        "metric": value,
        "metric_ci95": _interval(evaluation.metric, labels, predictions, classes) if judged else None,
        "file_mb": contender.file_mb,
        "parameters": contender.parameters,
        "latency_ms": {name: asdict(timing.latency) for name, timing in timings.items()},
        "latency_samples_ms": {name: in_ms(timing.seconds) for name, timing in timings.items()},
        "samples_per_s": {name: rows_per_second(name, timing.seconds) for name, timing in timings.items()},
    }


def in_ms(seconds: Sequence[float]) -> list[float]:
    """Raw samples as the report keeps them."""
    return [round(second * 1e3, 4) for second in seconds]


def rows_per_second(workload: str, seconds: Sequence[float]) -> float:
    """Throughput of a workload: the rows of all timed calls over the time that they took."""
    batch = next(item.batch for item in WORKLOADS if item.name == workload)
    return batch * len(seconds) / sum(seconds)


def against_teacher(
    result: Contender, teacher: Contender, evaluation: Evaluation, classes: int
) -> dict[str, Any]:
    """Drop with its paired interval, flips and agreement of the result."""
    drop, (low, high) = paired_drop(
        evaluation.metric, evaluation.labels, teacher.predictions, result.predictions, classes
    )
    changed = flips(teacher.predictions, result.predictions)
    return {
        "drop": drop,
        "drop_ci95": [low, high],
        "flips": changed,
        "agreement": 1.0 - changed / max(1, len(evaluation.labels)),
    }


def flipped_examples(
    result: Contender, teacher: Contender, evaluation: Evaluation, label_names: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows whose answer changed, those first of which the teacher was surest."""
    sure, now = _softmax(teacher.logits), _softmax(result.logits)
    changed = np.flatnonzero(teacher.predictions != result.predictions)
    order = sorted(changed, key=lambda row: -float(sure[row].max()))[:_SHOWN_FLIPS]
    return [
        {
            "text": evaluation.texts[row],
            "label": label_names[evaluation.labels[row]] if evaluation.basis == "labels" else None,
            "teacher": label_names[teacher.predictions[row]],
            "result": label_names[result.predictions[row]],
            "teacher_score": float(sure[row].max()),
            "result_score": float(now[row].max()),
        }
        for row in order
    ]


def class_rows(result: Contender, evaluation: Evaluation, label_names: Sequence[str]) -> list[dict[str, Any]]:
    """Support, precision, recall and F1 of each class."""
    return [dict(row) for row in per_class(evaluation.labels, result.predictions, label_names)]


def bundle_contender(path: Path, evaluation: Evaluation, parameters: int) -> tuple[Contender, Model]:
    """The bundle as an app uses it: its own tokenizer, its own session settings."""
    model = load(path)
    contender = Contender(
        name="result",
        logits=model.logits(evaluation.texts),
        call=model.engine.run,
        token_ids=[encoding.ids for encoding in model.encoder.tokenize(list(evaluation.texts[:REAL_INPUTS]))],
        file_mb=bundle_mb(path),
        parameters=parameters,
    )
    return contender, model


def bundle_mb(path: Path) -> float:
    """What an app embeds of a bundle: graph and tokenizer, in 10^6 bytes."""
    manifest = read_manifest(path)
    files = (*graph_files(path / manifest.graph), path / manifest.preprocessing.tokenizer_file)
    return sum(file.stat().st_size for file in files) / 1e6


def time_pipeline(model: Model, texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """The tokenizer alone, and a whole prediction from text to label, on real texts one at a time."""
    inputs = list(texts[:REAL_INPUTS])
    timed = measure(
        {"tokenizer_ms": lambda text: model.encode([text]), "end_to_end_ms": model.predict_one},
        {"real": inputs},
        rounds=max(len(inputs), rounds),
        time_limit_s=20.0,
    )
    return {name: asdict(by["real"].latency) for name, by in timed.items()}


def cold_start(values: Mapping[str, float]) -> dict[str, Any]:
    """A cold start as report.json has it."""
    return {
        "cold_start": {
            name.replace("_s", "_ms"): values[name] * 1e3
            for name in ("import_s", "load_s", "first_prediction_s", "total_s")
        },
        "peak_memory_mb": values["peak_memory_bytes"] / 1e6 if "peak_memory_bytes" in values else None,
    }


def drive_loadgen(result: Contender, pad_id: int, seconds: float) -> tuple[dict[str, Any] | None, str | None]:
    """LoadGen's single-stream and offline scenarios over real inputs; (None, why) where that failed."""
    from pocketformer.targets.scenarios import drive_scenarios

    try:
        return drive_scenarios(result.call, result.token_ids, pad_id, min_duration_s=seconds), None
    except PocketformerError as error:
        log.warning("LoadGen failed: %s", error)
        return None, f"LoadGen: not measured, {error.message}"


def onnx_contender(
    path: Path, name: str, encoded: Sequence[Sequence[int]], pad_id: int, threads: int, parameters: int
) -> Contender:
    """A plain ONNX file in onnxruntime with its default settings and the run's threads."""
    engine = OnnxRuntimeEngine(path, SessionSettings(intra_op_threads=threads))
    return Contender(
        name=name,
        logits=run_in_batches(engine, encoded, pad_id),
        call=engine.run,
        token_ids=encoded[:REAL_INPUTS],
        file_mb=path.stat().st_size / 1e6,
        parameters=parameters,
    )


def run_in_batches(
    engine: Engine, encoded: Sequence[Sequence[int]], pad_id: int, batch_size: int = 32
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Logits of an engine over rows of token ids, in their order."""
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
    logits: list[Any] = [None] * len(encoded)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        feeds = padded_feeds([encoded[row] for row in rows], pad_id)
        for row, values in zip(rows, engine.run(feeds), strict=True):
            logits[row] = values
    return np.stack(logits)


def feeds_of_rows(
    rows: Sequence[Sequence[int]], pad_id: int, names: Sequence[str], *, batch_size: int = 8
) -> list[Feeds]:
    """All rows as padded batches of rows of like length, with the inputs ``names`` alone."""
    from pocketformer.compress.encoding import bucketed_batches

    return [
        {
            name: values
            for name, values in padded_feeds([rows[i] for i in batch], pad_id).items()
            if name in names
        }
        for batch in bucketed_batches([len(row) for row in rows], batch_size)
    ]


def _interval(metric: str, labels: Any, predictions: Any, classes: int) -> list[float]:
    if metric == "accuracy":
        return list(wilson_interval(int((labels == predictions).sum()), len(labels)))
    return list(bootstrap_interval(metric, labels, predictions, classes))


def _softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    out: np.ndarray[Any, Any] = shifted / shifted.sum(-1, keepdims=True)
    return out
