"""What the blocks of an encoder cost on this device, measured, so that a structure's latency is a sum.

Neither parameters nor multiply-accumulates tell a latency: kernels have their own steps, small products leave most of a
processor idle, and half of a short call is no product at all. So small graphs are timed, each a whole model in the form
that ships, which differ in one width at a time (``design``), and their differences are what blocks cost (``solve``):

    latency = fixed + sum over all layers but the last (layer + attention(heads) + ffn(neurons))
                    + last attention(heads) + last ffn(neurons)

``fixed`` is a call, the embeddings, the classification head and what no width changes of the last layer. That layer is
a kind of its own, for it computes one position (``pocketformer.export.first_position``). An ordinary layer's cost is
half the difference of a model with two more of them, so what a call costs by itself cancels out. Attention and ffn
are 0 at width 0 and straight between the widths that were measured. Source of the idea: Kurtic, Frantar and Alistarh
2023, "ZipLM", arXiv:2302.04089, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, TypeVar

import numpy as np

from pocketformer.runtime.errors import InputError
from pocketformer.targets.measure import measure
from pocketformer.targets.workloads import Feeds, Workload, fill

Key = TypeVar("Key")
Shape = tuple[int, int]
"""Batch and sequence of a call."""

# Rows of a batch share their weights, so another batch is no multiple: only sequences are interpolated.
SHAPES: Mapping[Shape, int] = {(1, 8): 48, (1, 16): 48, (1, 32): 40, (1, 128): 20, (8, 128): 8}
"""The shapes of a table, and how many rounds each graph is timed in."""
ORDINARY_LAYERS = 2
"""How many layers before the last the graphs of ordinary layers have."""
_HEAD_SHARES = (1 / 6, 1 / 3, 2 / 3, 1.0)
_WIDTH_SHARES = (1 / 6, 1 / 3, 2 / 3, 1.0)
_SMALLEST_WIDTH = 8


@dataclass(frozen=True, order=True)
class GridPoint:
    """A graph of the table: one layer alone (``ordinary`` False), or ``ORDINARY_LAYERS`` like ones before a last.

    ``heads`` and ``ffn`` are those of the ordinary layers, else of the last.
    """

    ordinary: bool
    heads: int
    ffn: int


@dataclass(frozen=True)
class Grid:
    """The widths that are measured: ``heads`` beside the middle width, and ``widths`` beside the middle heads.

    The last layer is measured at fewer. ``reference`` are heads and neurons of what stays the same meanwhile.
    """

    heads: tuple[int, ...]
    widths: tuple[int, ...]
    reference: tuple[int, int]

    @property
    def last_heads(self) -> tuple[int, ...]:
        """Heads of the last layer, whose keys and values alone are of every position."""
        return tuple(sorted({self.heads[0], self.reference[0], self.heads[-1]}))

    @property
    def last_widths(self) -> tuple[int, ...]:
        """Neurons of the last layer, which are computed once a text."""
        return (self.widths[0], self.reference[1], self.widths[-1])

    @property
    def alone(self) -> GridPoint:
        """The graph of one layer with the widths of ``reference``."""
        return GridPoint(False, *self.reference)

    def points(self) -> tuple[GridPoint, ...]:
        """Every graph once."""
        heads, ffn = self.reference
        found = [GridPoint(True, h, ffn) for h in self.heads] + [
            GridPoint(True, heads, w) for w in self.widths
        ]
        found += [GridPoint(False, h, ffn) for h in self.last_heads]
        found += [GridPoint(False, heads, w) for w in self.last_widths]
        return tuple(sorted(set(found)))


def design(heads: int, ffn: int) -> Grid:
    """The grid for layers of up to ``heads`` heads and ``ffn`` neurons; ``InputError`` for too small a model."""
    if heads < 1 or ffn < _SMALLEST_WIDTH:
        raise InputError(f"a layer of {heads} heads and {ffn} neurons is too small for a latency table")
    some_heads = {1, *(max(1, round(heads * share)) for share in _HEAD_SHARES)}
    some_widths = {
        _SMALLEST_WIDTH,
        *(max(_SMALLEST_WIDTH, round(ffn * share / 8) * 8 or 8) for share in _WIDTH_SHARES),
    }
    some_widths = {min(width, ffn) for width in some_widths} | {ffn}
    reference = (sorted(some_heads)[len(some_heads) // 2], sorted(some_widths)[len(some_widths) // 2])
    return Grid(tuple(sorted(some_heads)), tuple(sorted(some_widths)), reference)


@dataclass(frozen=True)
class Curve:
    """Milliseconds by a width: 0 at width 0, straight between the measured widths and on beyond the last."""

    points: tuple[tuple[int, float], ...]

    def at(self, width: float) -> float:
        """The cost of ``width`` heads or neurons, ms."""
        widths = [0.0, *(float(w) for w, _ in self.points)]
        costs = [0.0, *(c for _, c in self.points)]
        if width > widths[-1] and len(widths) > 1:
            slope = (costs[-1] - costs[-2]) / (widths[-1] - widths[-2])
            return float(costs[-1] + slope * (width - widths[-1]))
        return float(np.interp(width, widths, costs))

    def mixed(self, other: Curve, share: float) -> Curve:
        """``share`` of the way to ``other``, which has the same widths."""
        pairs = zip(self.points, other.points, strict=True)
        return Curve(tuple((w, a + share * (b - a)) for (w, a), (_, b) in pairs))


@dataclass(frozen=True, kw_only=True)
class BlockCosts:
    """What blocks cost on one shape in one precision, ms; the module says how they add up."""

    fixed_ms: float
    layer_ms: float
    attention: Curve
    ffn: Curve
    last_attention: Curve
    last_ffn: Curve

    def total_ms(self, layers: Sequence[tuple[int, int]]) -> float:
        """The latency of a model whose layers have these (heads, neurons), first to last."""
        if not layers:
            raise InputError(
                "a model without layers has no latency", hint="Give (heads, neurons) of each layer."
            )
        *ordinary, (heads, ffn) = layers
        each = [self.layer_ms + self.attention.at(h) + self.ffn.at(w) for h, w in ordinary]
        return self.fixed_ms + sum(each) + self.last_attention.at(heads) + self.last_ffn.at(ffn)

    def mixed(self, other: BlockCosts, share: float) -> BlockCosts:
        """``share`` of the way to ``other``."""
        return BlockCosts(
            fixed_ms=self.fixed_ms + share * (other.fixed_ms - self.fixed_ms),
            layer_ms=self.layer_ms + share * (other.layer_ms - self.layer_ms),
            attention=self.attention.mixed(other.attention, share),
            ffn=self.ffn.mixed(other.ffn, share),
            last_attention=self.last_attention.mixed(other.last_attention, share),
            last_ffn=self.last_ffn.mixed(other.last_ffn, share),
        )


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Costs by precision and shape. ``about`` is what they hold for: processor, threads, runtime, model."""

    costs: Mapping[str, Mapping[Shape, BlockCosts]]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The forms of a graph that were measured."""
        return tuple(self.costs)

    def predict(
        self,
        layers: Sequence[tuple[int, int]],
        workload: Workload,
        precision: str,
        *,
        lengths: Sequence[int] = (),
    ) -> float:
        """Median milliseconds of a model with these (heads, neurons) a layer; raises as ``block_costs`` does."""
        return self.block_costs(workload, precision, lengths=lengths).total_ms(layers)

    def block_costs(self, workload: Workload, precision: str, *, lengths: Sequence[int] = ()) -> BlockCosts:
        """The costs on a workload; for real inputs those of the median of ``lengths`` (tokens of each).

        A longer text never takes less, so the median of their latencies is that of the median length.
        ``InputError`` for a precision or a shape that the table does not have.
        """
        if precision not in self.costs:
            raise InputError(
                f"the latency table has no precision {precision!r}", hint=f"It has {', '.join(self.costs)}."
            )
        sequence = workload.sequence
        if sequence is None:
            if not lengths:
                raise InputError(
                    "real inputs are predicted by their lengths", hint="Give the tokens of each."
                )
            sequence = round(median(lengths))
        return _at_shape(self.costs[precision], (workload.batch, sequence))


def _at_shape(costs: Mapping[Shape, BlockCosts], shape: Shape) -> BlockCosts:
    if shape in costs:
        return costs[shape]
    lower, upper = shapes_around(*shape, known=tuple(costs))
    share = (shape[1] - lower[1]) / (upper[1] - lower[1])
    return costs[lower].mixed(costs[upper], share)


def shapes_around(batch: int, sequence: int, known: Sequence[Shape] = tuple(SHAPES)) -> tuple[Shape, Shape]:
    """The two of ``known``, of this batch, that ``sequence`` lies between, or the two nearest; else ``InputError``."""
    lengths = sorted(length for rows, length in known if rows == batch)
    if len(lengths) < 2:
        raise InputError(
            f"the latency table has no shape {batch} x {sequence}",
            hint="It has " + ", ".join(f"{b} x {s}" for b, s in known) + ".",
        )
    upper = next((length for length in lengths[1:] if length >= sequence), lengths[-1])
    return (batch, lengths[lengths.index(upper) - 1]), (batch, upper)


def shapes_within(positions: int) -> dict[Shape, int]:
    """Those of ``SHAPES`` that a model of this many positions can run."""
    return {shape: rounds for shape, rounds in SHAPES.items() if shape[1] <= positions}


def measure_graphs(
    calls: Mapping[Key, Callable[[Feeds], object]],
    token_ids: Sequence[Sequence[int]],
    shape: Shape,
    *,
    rounds: int,
) -> dict[Key, float]:
    """Median milliseconds of every call on one shape, filled with the tokens of texts; all take turns."""
    names = {str(number): key for number, key in enumerate(calls)}
    feeds = fill(token_ids, *shape)
    timed = measure({name: calls[key] for name, key in names.items()}, {"": [feeds]}, rounds=rounds, warmup=1)
    return {names[name]: by[""].latency.p50 for name, by in timed.items()}


def solve(grid: Grid, measured: Mapping[GridPoint, float]) -> BlockCosts:
    """Costs of blocks from the latencies (ms) of all graphs of ``grid`` on one shape."""
    heads, ffn = grid.reference
    alone = measured[grid.alone]
    by_heads = {h: (measured[GridPoint(True, h, ffn)] - alone) / ORDINARY_LAYERS for h in grid.heads}
    by_width = {w: (measured[GridPoint(True, heads, w)] - alone) / ORDINARY_LAYERS for w in grid.widths}
    last_heads = {h: measured[GridPoint(False, h, ffn)] for h in grid.last_heads}
    last_widths = {w: measured[GridPoint(False, heads, w)] for w in grid.last_widths}
    attention, ffn_curve = _curve(by_heads), _curve(by_width)
    last_attention, last_ffn = _curve(last_heads), _curve(last_widths)
    return BlockCosts(
        fixed_ms=alone - last_attention.at(heads) - last_ffn.at(ffn),
        layer_ms=by_heads[heads] - attention.at(heads) - ffn_curve.at(ffn),
        attention=attention,
        ffn=ffn_curve,
        last_attention=last_attention,
        last_ffn=last_ffn,
    )


def with_call_of(costs: BlockCosts, grid: Grid, alone_ms: float) -> BlockCosts:
    """``costs`` for a form with the same layers whose graph of ``grid.alone`` takes ``alone_ms``."""
    heads, ffn = grid.reference
    return replace(costs, fixed_ms=costs.fixed_ms + alone_ms - costs.total_ms([(heads, ffn)]))


def _curve(totals: Mapping[int, float]) -> Curve:
    """How totals rise with a width, from width 0, where the line through the first two lies.

    A wider block never costs less: where a measured one does, that is noise, and both get their mean.
    """
    widths = sorted(totals)
    values = _rising([totals[width] for width in widths])
    start = values[0]
    if len(widths) > 1:
        start -= (values[1] - values[0]) / (widths[1] - widths[0]) * widths[0]
    return Curve(tuple((width, value - start) for width, value in zip(widths, values, strict=True)))


def _rising(values: Sequence[float]) -> list[float]:
    """The rising values nearest to ``values`` in squares: neighbours in the wrong order are pooled."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (left, few), (right, more) = pools[-2:]
            pools[-2:] = [((left * few + right * more) / (few + more), few + more)]
    return [value for value, count in pools for _ in range(count)]
