"""``pocketformer compress``: the whole chain, from a model, data and a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import (
    PATH,
    Drop,
    Duration,
    Latency,
    data_options,
    data_section,
    run_options,
    store_option,
)


@click.command("compress")
@click.argument("model", type=PATH)
@data_options(required=True)
@click.option(
    "--target", "targets", multiple=True, default=("cpu",), show_default=True, help="See `targets list`."
)
@click.option(
    "--max-drop", type=Drop(), default="1%", show_default=True, help="What accuracy may fall by; or 'none'."
)
@click.option(
    "--max-latency", type=Latency(), help="p50 of one text, or of a workload: 0.8, 12@1x128, 60@8x128."
)
@click.option(
    "--max-size", type=click.FloatRange(min=0, min_open=True), help="Model files, in MB (10^6 bytes)."
)
@click.option(
    "--max-memory", type=click.FloatRange(min=0, min_open=True), help="Peak of a fresh process, in MB."
)
@click.option(
    "--search",
    is_flag=True,
    help="Make several models, smaller and smaller, and take the best for the budget.",
)
@click.option(
    "--fast",
    is_flag=True,
    help="Without any training, in minutes: remove what is needed least and refit the rest.",
)
@click.option("--time-limit", type=Duration(), help="Of the search (implies it): 20m, 1h.  [default: 40m]")
@store_option
@click.option(
    "--finetune/--no-finetune", default=None, help="Default: only when the model has no head for the labels."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, with the time and memory expected.")
@run_options
def command(
    model: Path,
    targets: tuple[str, ...],
    max_drop: Optional[float],
    max_latency: Optional[tuple[float, str]],
    max_size: Optional[float],
    max_memory: Optional[float],
    search: bool,
    fast: bool,
    time_limit: Optional[float],
    store: Optional[str],
    finetune: Optional[bool],
    dry_run: bool,
    output: Path,
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Compress MODEL (a Hugging Face directory) for your data, within a budget.

    Distils, prunes, exports and quantizes, measures each candidate on the target, and writes to the output
    directory a report with the proof and a bundle that an app embeds. Interrupted? Run the same command again.

    Without --search or --fast the usual cuts are made, which suit a drop of a point. With --search several models
    are made and judged by the whole budget; they stay in the output directory, so that another budget (with --force)
    is answered from them. --fast trains nothing and cuts as far as the drop allows.
    """
    from pocketformer.cli.running import run_and_render
    from pocketformer.pipeline.compress import compress_recipe

    if fast and (search or time_limit is not None):
        raise click.UsageError("--fast and --search are two ways: give one.")
    if store is not None and not (search or time_limit is not None):
        raise click.UsageError("--store is for --search.")
    data = data_section(values)
    budget: dict[str, Any] = {"max_size_mb": max_size, "max_memory_mb": max_memory}
    if max_latency is not None:
        budget["max_latency_ms"], budget["latency_workload"] = max_latency
    budget = {name: value for name, value in budget.items() if value is not None} | {"max_drop": max_drop}
    recipe = compress_recipe(
        model,
        data=data,
        targets=targets,
        budget=budget,
        finetune=finetune,
        fast=fast,
        search=search or time_limit is not None,
        time_limit_s=time_limit,
        **values,
    )
    return run_and_render(recipe, output, force=force, as_json=as_json, dry_run=dry_run, store=store)
