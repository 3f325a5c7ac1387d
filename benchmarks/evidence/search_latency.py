"""Rows about latency itself: whether the latency table foretells it, and how much of the machine it uses.

Both stand on a finished demo: the shapes of its teacher, its test questions and its bundle. Everything is measured in
this process, with the threads that are there; no table that was kept earlier is used.
"""

from __future__ import annotations

import csv
import random
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Protocol

from evidence.runs import Finished
from evidence.table import EvidenceError, Measured, Row
from pocketformer.compress.encoding import TextEncoding
from pocketformer.pipeline.latency import PRECISIONS, SAME_LAYERS, block_graphs, random_graphs
from pocketformer.pipeline.roofline import peaks, roofline
from pocketformer.runtime.engine import OnnxRuntimeEngine, available_cores
from pocketformer.runtime.manifest import SessionSettings, read_manifest
from pocketformer.targets.latency_table import (
    BlockCosts,
    Grid,
    GridPoint,
    LatencyTable,
    Shape,
    design,
    shapes_around,
    solve,
    with_call_of,
)
from pocketformer.targets.measure import measure
from pocketformer.targets.workloads import WORKLOADS, Feeds, Workload, build_feeds, fill

STRUCTURES = 12
_SEED = 20
_MOST_HEADS, _MOST_NEURONS, _MOST_LAYERS = 12, 1536, 6
_VOCABULARY = 2000
_REAL_TEXTS = 40
_ROUNDS = {"real": 40, "1x32": 30, "1x128": 20, "8x128": 8}
_AT = "8x128"

Layers = list[tuple[int, int]]


class WithDemo(Protocol):
    """What these rows are measured from: anything that has a finished demo."""

    def demo(self) -> Finished: ...


def random_structures(count: int, *, seed: int = _SEED) -> list[Layers]:
    """Students of one to six layers of MiniLM's shapes, no layer of which has a width that the table measured."""
    rng = random.Random(seed)
    grid = design(_MOST_HEADS, _MOST_NEURONS)
    heads = [h for h in range(1, _MOST_HEADS + 1) if h not in grid.heads]
    widths = [w for w in range(16, _MOST_NEURONS, 8) if w not in grid.widths]
    depths = [1 + index % _MOST_LAYERS for index in range(count)]
    return [[(rng.choice(heads), rng.choice(widths)) for _ in range(depth)] for depth in depths]


def latency_prediction(runs: WithDemo) -> Measured:
    """Median relative error of predicted latencies, in percent, over structures, precisions and workloads."""
    demo = runs.demo()
    teacher = _teacher(demo)
    token_ids = [[token % _VOCABULARY for token in row] for row in _questions(demo, teacher)]
    structures = random_structures(STRUCTURES)
    grid = design(_MOST_HEADS, _MOST_NEURONS)
    errors: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="evidence-latency-") as folder:
        students = [
            random_graphs(teacher, layers, Path(folder) / f"student-{index}", vocabulary=_VOCABULARY)
            for index, layers in enumerate(structures)
        ]
        blocks = block_graphs(teacher, grid, Path(folder) / "blocks")
        start = perf_counter()
        for precision in (name for name in PRECISIONS if name not in SAME_LAYERS):
            forms = (precision, *(name for name, like in SAME_LAYERS.items() if like == precision))
            made = {form: [files[form] for files in students] for form in forms}
            for workload in WORKLOADS:
                timed = _in_turns(grid, {form: blocks[form] for form in forms}, made, workload, token_ids)
                for form, (costs, p50) in timed.items():
                    table = LatencyTable(costs={form: costs})
                    for layers, measured in zip(structures, p50, strict=True):
                        lengths = [len(row) for row in token_ids]
                        foretold = table.predict(layers, workload, form, lengths=lengths)
                        errors.setdefault(f"{form} {workload.name}", []).append(foretold / measured - 1.0)
        seconds = perf_counter() - start
    every = [abs(error) for found in errors.values() for error in found]
    apart = ", ".join(f"{name} {median(map(abs, found)):.1%}" for name, found in errors.items())
    how = (
        f"median of |predicted / measured p50 - 1| over {len(every)} latencies: {STRUCTURES} students with random "
        f"weights, {_VOCABULARY} rows of the word table and 1 to {_MOST_LAYERS} layers of widths between the table's, "
        f"each exported, fused and quantized like what ships, x {len(PRECISIONS)} forms x {len(WORKLOADS)} workloads, "
        f"{available_cores()} threads. The graphs of the table and the students took turns ({seconds:.0f} s), so that "
        "how fast the machine was at the moment is no part of the error; a table that was measured earlier is off by "
        f"that as well. Medians apart: {apart}; nine of ten below {_ninth(every):.1%}"
    )
    return Measured(value=100 * median(every), how=how)


def roofline_share(runs: WithDemo) -> Measured:
    """The demo's bundle at 8 x 128 against a 2048-cubed int8 product of the same threads, in percent."""
    demo = runs.demo()
    manifest = read_manifest(demo.bundle)
    graph, settings = demo.bundle / manifest.graph, manifest.session
    token_ids = _questions(demo, _teacher(demo), bundle=True)
    workload = next(w for w in WORKLOADS if w.name == _AT)
    feeds = build_feeds(workload, token_ids)
    roofs = [peaks(settings)]
    engine = OnnxRuntimeEngine(graph, settings)
    timed = measure({"bundle": engine.run}, {_AT: feeds}, rounds=20)
    roofs.append(peaks(settings))
    # The higher of both: whatever slows a product down must not lift the share.
    roof = max(roofs, key=lambda one: one.macs_per_s["int8"])
    p50 = timed["bundle"][_AT].latency.p50
    found = roofline(graph, settings, {_AT: feeds[0]}, {_AT: p50}, roof=roof)["workloads"][_AT]
    parts = ", ".join(f"{name} {share:.0%}" for name, share in list(found["time"].items())[:6])
    how = (
        f"{found['macs'] / 1e6:.0f} million multiply-accumulates, counted from the shapes that onnxruntime ran, over "
        f"a p50 of {p50:.2f} ms is {found['macs_per_s'] / 1e9:.1f} billion a second; the product reaches "
        f"{roof.macs_per_s['int8'] / 1e9:.1f} (fp32: {roof.macs_per_s['fp32'] / 1e9:.1f}), both with "
        f"{settings.intra_op_threads or available_cores()} threads. Products alone run at {found['product_share']:.0%} "
        f"of it. Time: {parts}"
    )
    return Measured(value=100 * found["share"], how=how)


def _in_turns(
    grid: Grid,
    blocks: Mapping[str, Mapping[GridPoint, Path]],
    students: Mapping[str, Sequence[Path]],
    workload: Workload,
    token_ids: Sequence[Sequence[int]],
) -> dict[str, tuple[dict[Shape, BlockCosts], list[float]]]:
    """By form of the same layers, the first one's with a whole grid: costs of blocks, and p50 of the students in ms."""
    settings = SessionSettings(intra_op_threads=available_cores())
    lengths = [len(row) for row in token_ids]
    shapes: Sequence[Shape] = shapes_around(1, round(median(lengths)))
    if workload.sequence is not None:
        shapes = [(workload.batch, workload.sequence)]
    calls: dict[Hashable, Callable[[int], object]] = {}
    for form, files in students.items():
        feeds = build_feeds(workload, token_ids)
        for index, path in enumerate(files):
            calls[form, index] = _cycling(OnnxRuntimeEngine(path, settings), feeds)
        for point, path in blocks[form].items():
            engine = OnnxRuntimeEngine(path, settings)
            calls |= {(form, point, shape): _cycling(engine, [fill(token_ids, *shape)]) for shape in shapes}
    names = {str(number): key for number, key in enumerate(calls)}
    rounds = {"": list(range(_ROUNDS[workload.name]))}
    timed = measure(
        {name: calls[key] for name, key in names.items()}, rounds, rounds=len(rounds[""]), warmup=1
    )
    p50 = {names[name]: by[""].latency.p50 for name, by in timed.items()}
    first, *others = students
    solved = {
        shape: solve(grid, {point: p50[first, point, shape] for point in grid.points()}) for shape in shapes
    }
    costs = {first: solved} | {
        form: {shape: with_call_of(solved[shape], grid, p50[form, grid.alone, shape]) for shape in shapes}
        for form in others
    }
    return {
        form: (costs[form], [p50[form, index] for index in range(len(students[form]))]) for form in students
    }


def _cycling(engine: OnnxRuntimeEngine, feeds: Sequence[Feeds]) -> Callable[[int], object]:
    return lambda turn: engine.run(feeds[turn % len(feeds)])


def _teacher(demo: Finished) -> Path:
    folders = sorted((demo.output / "stages").glob("[0-9][0-9]-finetune"))
    if not folders:
        raise EvidenceError(f"{demo.output} has no fine-tuned teacher")
    return folders[0] / "model"


def _questions(demo: Finished, teacher: Path, *, bundle: bool = False) -> list[list[int]]:
    """Token ids of the first test questions, the bundle's own where it is measured."""
    file, column = demo.test_file()
    with file.open(encoding="utf-8", newline="") as lines:
        texts = [row[column] for row in csv.DictReader(lines)][:_REAL_TEXTS]
    if not texts:
        raise EvidenceError(f"{file} holds no test questions")
    if bundle:
        from pocketformer.runtime.model import load

        return [encoding.ids for encoding in load(demo.bundle).encoder.tokenize(texts)]
    return [list(row) for row in TextEncoding(teacher, 128).encode(texts)]


def _ninth(values: Sequence[float]) -> float:
    return sorted(values)[int(0.9 * (len(values) - 1))]


ROWS: tuple[Row[WithDemo], ...] = (
    Row(
        id="latency-prediction",
        what="predicted against measured latency, median error (aim: 8)",
        comparator="<=",
        required=15.0,
        unit="percent",
        measure=latency_prediction,
    ),
    Row(
        id="roofline",
        what="share of this machine's measured int8 roofline at 8x128 (aim: 65)",
        comparator=">=",
        required=40.0,
        unit="percent",
        measure=roofline_share,
    ),
)
