"""``pocketformer prune``: remove layers, heads, neurons and vocabulary, or set weights to zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, Cost, Count, Sparsity, data_options, data_section, run_options


@click.command("prune")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option("--layers", type=Count(), help="Layers to keep: a number or a share, spread evenly.")
@click.option("--heads", type=Count(), help="Heads to keep in a layer: a number or a share.")
@click.option("--ffn", type=Count(), help="Feed-forward neurons to keep in a layer: a number or a share.")
@click.option("--hidden", type=Count(), help="Width of the hidden state to keep: a number or a share.")
@click.option("--embedding-rank", type=Count(), help="Rank of the word table to keep: a number or a share.")
@click.option("--vocabulary", type=Count(), help="Pieces of the vocabulary to keep: a number or a share.")
@click.option("--sparsity", type=Sparsity(), help="Weights to set to zero: a share, or 2:4 for TensorRT.")
@click.option(
    "--sparsity-method",
    type=click.Choice(("magnitude", "wanda", "sparsegpt")),
    default="sparsegpt",
    show_default=True,
    help="Which weights; sparsegpt also changes those that stay.",
)
@click.option(
    "--method",
    type=click.Choice(("fisher", "obs")),
    default="fisher",
    show_default=True,
    help="How to choose; obs also refits what stays, for models that are not trained afterwards.",
)
@click.option(
    "--allocation",
    type=click.Choice(("uniform", "global", "latency")),
    help="How layers share what stays.  [default: uniform; latency with --cost]",
)
@click.option("--cost", type=Cost(), help="Share of the encoder's cost that may stay, or 'budget' (obs).")
@run_options
def command(
    model: Path,
    layers: Any,
    heads: Any,
    ffn: Any,
    hidden: Any,
    embedding_rank: Any,
    vocabulary: Any,
    sparsity: Any,
    sparsity_method: str,
    method: str,
    allocation: Optional[str],
    cost: Any,
    output: Path,
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Remove parts of MODEL (a directory or a run) that the data in --train needs least.

    What is removed is gone: shapes and files shrink. Only --sparsity keeps shapes; what trains afterwards holds its
    zeros. Follow with `distill` to recover what was lost, or let
    `--method obs` change the weights that stay so that little is.
    """
    from pocketformer.cli.running import run_and_render, step_recipe

    data = data_section(values)
    wanted = {
        "layers": layers,
        "heads": heads,
        "ffn": ffn,
        "hidden": hidden,
        "embedding_rank": embedding_rank,
        "cost": cost,
    }
    structure = {name: value for name, value in wanted.items() if value is not None}
    if structure:
        structure["method"] = method
        structure["allocation"] = allocation or ("uniform" if cost is None else "latency")
    steps: list[Any] = [{"prune": structure}] if structure else []
    if sparsity is not None:
        steps.append({"sparsify": {"pattern": sparsity, "method": sparsity_method}})
    if vocabulary is not None:
        steps.append({"vocabulary": {"size": vocabulary}})
    if not steps:
        raise click.UsageError(
            "say what to keep: --layers, --heads, --ffn, --hidden, --embedding-rank, --cost or --vocabulary; "
            "or how much to set to zero: --sparsity."
        )
    return run_and_render(step_recipe(model, steps, values, data), output, force=force, as_json=as_json)
