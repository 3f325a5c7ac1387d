"""Rows about latency itself: whether the latency table foretells it, and how much of the machine it uses.

Both stand on a finished demo: the shapes of its teacher, its test questions and its bundle. Everything is measured in
this process, with the threads that are there; no table that was kept earlier is used.
"""

from __future__ import annotations

import csv
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

from evidence.runs import Finished
from evidence.table import EvidenceError, Measured, Row
from pocketformer.compress.encoding import TextEncoding
from pocketformer.pipeline.latency import PRECISIONS, Tabled, latency_table, random_graphs
from pocketformer.pipeline.roofline import peaks, roofline
from pocketformer.runtime.engine import OnnxRuntimeEngine, available_cores
from pocketformer.runtime.manifest import SessionSettings, read_manifest
from pocketformer.targets.latency_table import design
from pocketformer.targets.measure import measure
from pocketformer.targets.workloads import WORKLOADS, build_feeds

STRUCTURES = 12
_SEED = 20
_MOST_HEADS, _MOST_NEURONS, _MOST_LAYERS = 12, 1536, 6
_REAL_TEXTS = 60
_ROUNDS = {"real": 15, "1x32": 15, "1x128": 10, "8x128": 8}
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
    token_ids = _questions(demo, teacher)
    lengths = [len(row) for row in token_ids]
    structures = random_structures(STRUCTURES)
    errors: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="evidence-latency-") as folder:
        graphs = [
            random_graphs(teacher, layers, Path(folder) / f"student-{index}", vocabulary=None)
            for index, layers in enumerate(structures)
        ]
        tabled: Tabled = latency_table(teacher, again=True, folder=Path(folder) / "tables")
        for precision in PRECISIONS:
            paths = {str(index): files[precision] for index, files in enumerate(graphs)}
            for workload, p50 in _latencies(paths, token_ids).items():
                for index, layers in enumerate(structures):
                    named = next(w for w in WORKLOADS if w.name == workload)
                    foretold = tabled.table.predict(layers, named, precision, lengths=lengths)
                    error = abs(foretold / p50[str(index)] - 1.0)
                    errors.setdefault(f"{precision} {workload}", []).append(error)
    every = [error for found in errors.values() for error in found]
    apart = ", ".join(f"{name} {median(found):.1%}" for name, found in errors.items())
    how = (
        f"median of |predicted / measured p50 - 1| over {len(every)} latencies: {STRUCTURES} students with random "
        f"weights and 1 to {_MOST_LAYERS} layers of widths between the table's, exported like what ships, x "
        f"{len(PRECISIONS)} forms x {len(WORKLOADS)} workloads, {available_cores()} threads; the table was measured "
        f"in {tabled.seconds:.0f} s. Medians apart: {apart}; nine of ten below {_ninth(every):.1%}"
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


def _latencies(paths: dict[str, Path], token_ids: Sequence[Sequence[int]]) -> dict[str, dict[str, float]]:
    """p50 in ms by workload and student, all students of one form in turns."""
    settings = SessionSettings(intra_op_threads=available_cores())
    calls = {name: OnnxRuntimeEngine(path, settings).run for name, path in paths.items()}
    found: dict[str, dict[str, float]] = {}
    for workload in WORKLOADS:
        feeds = build_feeds(workload, token_ids)
        rounds = max(len(feeds), _ROUNDS[workload.name])
        timed = measure(calls, {workload.name: feeds}, rounds=rounds, warmup=2)
        found[workload.name] = {name: by[workload.name].latency.p50 for name, by in timed.items()}
    return found


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
