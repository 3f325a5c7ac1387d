"""The rows about ``compress --fast``, which trains nothing."""

from __future__ import annotations

from evidence.search import SearchRuns, drop_on_test, stage_of
from evidence.table import Measured, Row


def speedup(runs: SearchRuns) -> Measured:
    """How many times as fast as its teacher the pruned model is before it is quantized, both in onnxruntime fp32."""
    found = runs.fast_graph
    how = (
        f"p50 {found['teacher_ms']:.1f} ms of the teacher's exported graph against {found['result_ms']:.1f} ms of the "
        f"pruned model's fused one, {found['rounds']} rounds in turns, {found['threads']} threads"
    )
    return Measured(value=found["teacher_ms"] / found["result_ms"], how=how)


def drop(runs: SearchRuns) -> Measured:
    """How much accuracy that graph loses on test."""
    found = runs.fast_graph
    before, after = found["teacher_accuracy"], found["result_accuracy"]
    return Measured(
        value=before - after, how=f"accuracy {before:.4f} to {after:.4f} on {found['rows']} test questions"
    )


def shipped_drop(runs: SearchRuns) -> Measured:
    """How much accuracy the run's bundle loses on test."""
    return drop_on_test(runs.fast())


def seconds(runs: SearchRuns) -> Measured:
    """How long the search took."""
    run = runs.fast()
    pruning = stage_of(run, "prune")
    how = (
        f"the prune stage, {pruning['metrics']['trials']:.0f} trials; the whole run with export, quantization and "
        f"measuring took {run.details['seconds']:.0f} s; made {run.details['made']}"
    )
    return Measured(value=pruning["seconds"], how=how)


ROWS: tuple[Row[SearchRuns], ...] = (
    Row(
        id="fast-speedup",
        what="`--fast` before quantization, 8x128, over onnxruntime fp32 of the teacher",
        comparator=">=",
        required=1.56,
        unit="x",
        measure=speedup,
    ),
    Row(
        id="fast-drop",
        what="Drop of that model on test",
        comparator="<=",
        required=0.01,
        unit="fraction",
        measure=drop,
    ),
    Row(
        id="fast-shipped-drop",
        what="Drop of the bundle of `--fast` on test",
        comparator="<=",
        required=0.01,
        unit="fraction",
        measure=shipped_drop,
    ),
    Row(
        id="fast-seconds",
        what="`--fast`: the search for it on 2 cores",
        comparator="<",
        required=180,
        unit="s",
        measure=seconds,
    ),
)
