"""The latency table of a model on this machine: graphs from export, their forms from compress, times from targets."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from pocketformer.runtime.manifest import SessionSettings
from pocketformer.targets.latency_table import ORDINARY_LAYERS, Grid, GridPoint, LatencyTable, design

if TYPE_CHECKING:
    from pocketformer.export.template import Widths
    from pocketformer.targets.latency_table import BlockCosts, Shape

log = logging.getLogger("pocketformer")

PRECISIONS: Mapping[str, str] = {
    "fp32-fused": "fp32-fused",
    "int8-fused": "dynamic-fused-reduced",
    "int8-fused-int4": "dynamic-fused-reduced-int4",
    "int8-plain": "dynamic-plain-reduced",
}
"""The forms of a graph that a table has, and the quantization candidate that stands for each."""
SAME_LAYERS: Mapping[str, str] = {"int8-fused-int4": "int8-fused"}
"""Forms that differ from another in their embedding tables alone: one graph tells what a call costs otherwise."""
_VOCABULARY = 2000  # rows of the word table: a call reads a few, however many there are
_LONGEST = 128
_TEXTS = 64  # random ones that fixed shapes are filled from


@dataclass(frozen=True, kw_only=True)
class Tabled:
    """A table, the file that keeps it, and the seconds that measuring took (0: it was there already)."""

    table: LatencyTable
    path: Path
    seconds: float


@dataclass(frozen=True)
class _Model:
    """What graphs of a model's blocks have in common, read off its configuration."""

    directory: Path
    kind: str
    hidden: int
    head_size: int
    heads: int
    ffn: int
    activation: str
    positions: int
    labels: int

    def key(self) -> dict[str, Any]:
        """What latencies depend on: not how many heads and neurons there are, which the table is about."""
        return {
            "type": self.kind,
            "hidden": self.hidden,
            "head_size": self.head_size,
            "activation": self.activation,
            "positions": min(self.positions, _LONGEST),
        }


def precision_of(candidate: str) -> str | None:
    """The form of ``PRECISIONS`` that a quantization candidate is one of; None: the table has none."""
    from pocketformer.compress.quantize.candidates import MIXED, candidate_by_name
    from pocketformer.compress.quantize.config import DynamicConfig, EmbeddingsConfig

    found = candidate_by_name(candidate)
    if found.smoothing is not None or found.name.endswith(MIXED):
        return None
    if found.config is not None and not isinstance(found.config, DynamicConfig):
        return None
    name = f"{'fp32' if found.config is None else 'int8'}-{found.graph}"
    if isinstance(found.embeddings, EmbeddingsConfig):
        if found.embeddings.codebook_group is not None:
            return None
        name += "-int4" if found.embeddings.bits == 4 else ""
    return name if name in PRECISIONS else None


def latency_table(
    model_dir: Path,
    *,
    threads: int | None = None,
    again: bool = False,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Tabled:
    """The latency table for the architecture of ``model_dir`` on this machine: the kept one, or measured now.

    ``threads`` None: all cores available. ``again`` measures even when there is one; tables are kept in ``folder``,
    None: among the caches of the user. What a table holds for stands in its ``about``; measuring takes a minute or two.
    Raises ``ModelError`` for a model that cannot be read, and what exporting and onnxruntime raise.
    """
    from pocketformer.targets.latency_cache import table_path, write_table

    model = _model_of(model_dir)
    settings = SessionSettings(intra_op_threads=threads or 0)
    place = _folder() if folder is None else folder
    kept = None if again else _kept(model, settings, place)
    if kept is not None:
        return Tabled(table=kept, path=table_path(place, kept.about), seconds=0.0)
    start = perf_counter()
    table = _measure(model, settings, say)
    return Tabled(table=table, path=write_table(place, table), seconds=perf_counter() - start)


def kept_table(model_dir: Path, *, threads: int | None = None) -> LatencyTable | None:
    """The table that ``latency_table`` would find without measuring; None when there is none."""
    return _kept(_model_of(model_dir), SessionSettings(intra_op_threads=threads or 0), _folder())


def _kept(model: _Model, settings: SessionSettings, folder: Path) -> LatencyTable | None:
    from pocketformer.targets.latency_cache import measured_on, read_table

    table = read_table(folder, measured_on(settings, model.key()))
    if table is None or set(table.precisions) != set(PRECISIONS):
        return None
    return table if _covers(table, model) else None


def _covers(table: LatencyTable, model: _Model) -> bool:
    """Whether the table's widths reach those of the model: one of a narrower model was measured first."""
    costs = [costs for by_shape in table.costs.values() for costs in by_shape.values()]
    return all(c.attention.points[-1][0] >= model.heads and c.ffn.points[-1][0] >= model.ffn for c in costs)


def _folder() -> Path:
    from pocketformer.pipeline.demo import cache_directory

    return cache_directory() / "latency-tables"


def _model_of(model_dir: Path) -> _Model:
    from pocketformer.compress.families import family_of_type
    from pocketformer.compress.models import load_configuration

    config = load_configuration(model_dir)
    family = family_of_type(str(config.model_type))
    heads, hidden = int(config.num_attention_heads), int(config.hidden_size)
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation", "")
    return _Model(
        directory=model_dir,
        kind=str(config.model_type),
        hidden=hidden,
        head_size=hidden // heads,
        heads=heads,
        ffn=int(getattr(config, family.ffn_key)),
        activation=str(activation),
        positions=int(config.max_position_embeddings),
        labels=int(config.num_labels),
    )


def _measure(model: _Model, settings: SessionSettings, say: Callable[[str], None]) -> LatencyTable:
    import numpy as np

    from pocketformer.runtime.engine import OnnxRuntimeEngine
    from pocketformer.targets.latency_cache import measured_on
    from pocketformer.targets.latency_table import measure_graphs, shapes_within, solve, with_call_of

    grid = design(model.heads, model.ffn)
    rng = np.random.default_rng(0)
    texts = [rng.integers(5, _VOCABULARY, size=24).tolist() for _ in range(_TEXTS)]
    costs: dict[str, dict[Shape, BlockCosts]] = {precision: {} for precision in PRECISIONS}
    with tempfile.TemporaryDirectory(prefix="pocketformer-table-") as folder:
        say("making the graphs of the latency table")
        graphs = block_graphs(model.directory, grid, Path(folder))
        for precision in (name for name in PRECISIONS if name not in SAME_LAYERS):
            # A precision at a time: fewer sessions, each of which waits less for its next turn.
            others = [name for name, like in SAME_LAYERS.items() if like == precision]
            calls = {
                (name, point): OnnxRuntimeEngine(path, settings).run
                for name in (precision, *others)
                for point, path in graphs[name].items()
            }
            for shape, rounds in shapes_within(model.positions).items():
                say(f"timing blocks, {precision}, {shape[0]} x {shape[1]}")
                p50 = measure_graphs(calls, texts, shape, rounds=rounds)
                solved = solve(grid, {point: p50[precision, point] for point in grid.points()})
                costs[precision][shape] = solved
                for name in others:
                    costs[name][shape] = with_call_of(solved, grid, p50[name, grid.alone])
    return LatencyTable(costs=costs, about=measured_on(settings, model.key()))


def block_graphs(model_dir: Path, grid: Grid, folder: Path) -> dict[str, dict[GridPoint, Path]]:
    """The graphs of a table, by precision and point, written into ``folder``: what a device would be sent to time.

    Two models with random weights go through the steps by which a deployable graph is made; all others are these with
    other widths (``pocketformer.export.template``).
    """
    from pocketformer.export.template import Widths, resize_graph, unmistakable_widths

    model = _model_of(model_dir)
    taken = (model.hidden, model.head_size, model.labels, model.positions, _VOCABULARY, model.ffn)
    ordinary, last = unmistakable_widths(2, head_size=model.head_size, taken=taken)
    templates = {
        True: random_graphs(model_dir, [*[_pair(ordinary)] * ORDINARY_LAYERS, _pair(last)], folder / "deep"),
        False: random_graphs(model_dir, [_pair(last)], folder / "alone"),
    }
    reference = Widths(*grid.reference)
    graphs: dict[str, dict[GridPoint, Path]] = {precision: {} for precision in PRECISIONS}
    for point in grid.points():
        wanted = Widths(point.heads, point.ffn)
        changes = {ordinary: wanted, last: reference} if point.ordinary else {last: wanted}
        for precision, template in templates[point.ordinary].items():
            if precision in SAME_LAYERS and point != grid.alone:
                continue
            name = f"{'ordinary' if point.ordinary else 'last'}-{point.heads}-{point.ffn}-{precision}.onnx"
            graphs[precision][point] = resize_graph(
                template, folder / name, changes, head_size=model.head_size
            )
    return graphs


def random_graphs(
    model_dir: Path, layers: Sequence[tuple[int, int]], folder: Path, *, vocabulary: int | None = _VOCABULARY
) -> dict[str, Path]:
    """A model with random weights and these (heads, neurons), in all of ``PRECISIONS``, made as a run makes what ships.

    ``vocabulary`` None: as many rows of the word table as ``model_dir`` has.
    """
    from pocketformer.compress.quantize.portfolio import quantize_candidate
    from pocketformer.compress.random_student import random_student
    from pocketformer.export.onnx_export import export_onnx
    from pocketformer.pipeline.graph_stages import default_exporter
    from pocketformer.pipeline.portfolio import deployable_graph

    folder.mkdir(parents=True)
    student = random_student(model_dir, layers, vocabulary=vocabulary)
    exported = export_onnx(student, model_dir, folder / "model.onnx", exporter=default_exporter()).output
    heads, hidden = [heads for heads, _ in layers], int(student.config.hidden_size)
    kinds: tuple[Literal["plain", "fused"], ...] = ("plain", "fused")
    graphs: dict[str, Path] = {
        kind: deployable_graph(exported, folder, kind, heads=heads, hidden=hidden) for kind in kinds
    }
    return {
        precision: quantize_candidate(candidate, graphs=graphs, output=folder / f"{precision}.onnx").output
        for precision, candidate in PRECISIONS.items()
    }


def table_of_target(
    model: Path,
    target: str,
    *,
    threads: int | None = None,
    again: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Tabled:
    """``latency_table`` for a Hugging Face directory or a run, on the target of this name.

    A run stands for its teacher. ``DeviceError`` for a target that is not this machine's processor.
    """
    from pocketformer.pipeline.artefacts import Artefacts
    from pocketformer.pipeline.rundir import read_run
    from pocketformer.runtime.errors import DeviceError, ModelError
    from pocketformer.targets.profile import find_target
    from pocketformer.targets.support import MEASURED_HERE, support

    profile = find_target(target)
    if support(profile) != MEASURED_HERE:
        raise DeviceError(
            f"no latency table can be measured on {profile.name!r} yet",
            hint="Tables are of this machine's processor: use --target cpu.",
        )
    if not model.is_dir():
        raise ModelError(f"no such model: {model}", hint="Name a Hugging Face directory or a run directory.")
    run = read_run(model)
    if run is not None:
        artefacts = Artefacts.from_json(run["artefacts"], model.resolve())
        model = artefacts.teacher or artefacts.need("model", verb="targets table")
    return latency_table(model, threads=threads or profile.threads or None, again=again, say=say)


def _pair(widths: Widths) -> tuple[int, int]:
    return widths.heads, widths.ffn
