"""What blocks cost on a budget's workload, from this machine's latency table, so that a cut can aim at a latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocketformer.compress.prune.costs import BlockCosts
from pocketformer.runtime.errors import RecipeError
from pocketformer.targets.workloads import REAL_INPUTS, WORKLOADS

if TYPE_CHECKING:
    from pathlib import Path

    from pocketformer.pipeline.context import RunContext


def costs_on(workload: str, layers: int, *, teacher: Path, candidate: str, context: RunContext) -> BlockCosts:
    """Milliseconds of the blocks of a model with so many ``layers``, in the form that ``candidate`` makes of it.

    The table is that of ``pocketformer targets table``: the kept one, or measured now, which takes a minute or two.
    ``RecipeError`` for a candidate that tables do not have.
    """
    from pocketformer.compress.encoding import TextEncoding
    from pocketformer.pipeline.latency import latency_table, precision_of

    precision = precision_of(candidate)
    if precision is None:
        raise RecipeError(
            f"latency tables have no form like {candidate}",
            hint="Let the search judge by a dynamic candidate.",
        )
    texts = context.need_splits("search").validation.texts[:REAL_INPUTS]
    lengths = [len(row) for row in TextEncoding(teacher, context.recipe.max_length).encode(texts)]
    table = latency_table(teacher, threads=context.threads, say=context.listener.note).table
    shape = next(known for known in WORKLOADS if known.name == workload)
    costs = table.block_costs(shape, precision, lengths=lengths)
    return BlockCosts(
        attention={0: 0.0, **dict(costs.attention.points)},
        ffn={0: 0.0, **dict(costs.ffn.points)},
        last_attention={0: 0.0, **dict(costs.last_attention.points)},
        last_ffn={0: 0.0, **dict(costs.last_ffn.points)},
        rest=costs.fixed_ms + costs.layer_ms * (layers - 1),
        unit="ms",
        source=f"latency table, {precision}, {workload}",
    )
