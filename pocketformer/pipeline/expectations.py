"""Whether a bundle's latency was to be expected: the latency table's prediction, and its share of the roofline."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pocketformer.runtime.errors import PocketformerError
from pocketformer.targets.measure import WorkloadTiming
from pocketformer.targets.workloads import REAL_INPUTS, WORKLOADS, build_feeds

if TYPE_CHECKING:
    from pocketformer.pipeline.context import RunContext
    from pocketformer.pipeline.deliver_stages import BenchConfig
    from pocketformer.runtime.model import Model

log = logging.getLogger("pocketformer")


def expectations(
    config: BenchConfig,
    context: RunContext,
    bundle: Model,
    student: Any,
    token_ids: Sequence[Sequence[int]],
    timings: Mapping[str, WorkloadTiming],
) -> tuple[dict[str, Any], list[str]]:
    """``prediction`` and ``roofline`` of a device's row, and notes of what could not be had.

    ``student`` is the torch model that ``bundle`` was made from, ``timings`` are the bundle's by workload. Neither is
    worth losing a bench over: what fails is told and left out.
    """
    values: dict[str, Any] = {}
    notes: list[str] = []
    graph = Path(bundle.engine.model_path) if hasattr(bundle.engine, "model_path") else None
    if graph is None or graph.suffix != ".onnx":
        return values, notes
    p50 = {name: timing.latency.p50 for name, timing in timings.items()}
    rows = token_ids[:REAL_INPUTS]
    if config.latency_table is not False:
        try:
            values["prediction"] = prediction(
                context,
                student,
                _candidate(bundle),
                [len(row) for row in rows],
                p50,
                measure=config.latency_table is True,
            )
        except PocketformerError as error:
            log.warning("no prediction: %s", error)
            notes.append(f"latency was not predicted: {error.message}")
    if config.roofline:
        from pocketformer.pipeline.roofline import roofline

        context.listener.note("timing what this machine can multiply")
        try:
            settings = bundle.engine.settings  # type: ignore[attr-defined]
            values["roofline"] = roofline(graph, settings, _feeds(rows, p50), p50)
        except PocketformerError as error:
            log.warning("no roofline: %s", error)
            notes.append(f"the roofline was not measured: {error.message}")
    return values, notes


def prediction(
    context: RunContext,
    student: Any,
    candidate: str | None,
    lengths: Sequence[int],
    p50_ms: Mapping[str, float],
    *,
    measure: bool,
) -> dict[str, Any] | None:
    """The ``prediction`` of report.json; None without a table, for a graph of a form that tables do not have, and
    for a narrower hidden state than the teacher's.

    ``measure``: make the table when there is none, which takes a minute or two.
    """
    from pocketformer.compress.models import structure_of
    from pocketformer.pipeline.latency import kept_table, latency_table, precision_of

    precision = None if candidate is None else precision_of(candidate)
    if precision is None:
        return None
    teacher = context.artefacts.need("teacher", verb="bench")
    table = kept_table(teacher, threads=context.threads)
    if table is None and measure:
        table = latency_table(teacher, threads=context.threads, say=context.listener.note).table
    structure = structure_of(student)
    if table is None or table.about["model"]["hidden"] != structure.hidden:
        return None
    layers = [(layer.heads, layer.ffn) for layer in structure.layers]
    foretold = {
        workload.name: table.predict(layers, workload, precision, lengths=lengths)
        for workload in WORKLOADS
        if workload.name in p50_ms
    }
    error = {name: value / p50_ms[name] - 1.0 for name, value in foretold.items()}
    return {
        "precision": precision,
        "latency_ms": foretold,
        "error": error,
        "median_error": median(abs(value) for value in error.values()),
    }


def _candidate(bundle: Model) -> str | None:
    """The quantization candidate that the bundle's graph is, where its provenance tells."""
    name = bundle.manifest.provenance.get("choices", {}).get("quantize")
    return None if name is None else str(name)


def _feeds(rows: Sequence[Sequence[int]], wanted: Mapping[str, float]) -> dict[str, Any]:
    """One call's feeds of each workload; of real inputs the one of median length."""
    middle = sorted(rows, key=len)[len(rows) // 2]
    return {
        workload.name: build_feeds(workload, [middle] if workload.sequence is None else rows)[0]
        for workload in WORKLOADS
        if workload.name in wanted
    }
