"""``pocketformer compress``: the whole chain, from a model, data and a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import (
    PATH,
    Duration,
    budget_options,
    budget_section,
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
@budget_options(max_drop="1%")
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
@click.option("--qat", is_flag=True, help="Train once more with rounded products, where int8 costs accuracy.")
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
    search: bool,
    fast: bool,
    qat: bool,
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
    are made and judged by the whole budget; they stay in the output directory, and `choose` answers another budget
    from them. --fast trains nothing and cuts as far as the drop allows.
    """
    from pocketformer.cli.running import run_and_render
    from pocketformer.pipeline.compress import compress_recipe

    if fast and (search or time_limit is not None):
        raise click.UsageError("--fast and --search are two ways: give one.")
    if fast and qat:
        raise click.UsageError("--fast trains nothing: leave --qat out.")
    if store is not None and not (search or time_limit is not None):
        raise click.UsageError("--store is for --search.")
    data = data_section(values)
    budget = budget_section(values)
    recipe = compress_recipe(
        model,
        data=data,
        targets=targets,
        budget=budget,
        finetune=finetune,
        fast=fast,
        qat=qat,
        search=search or time_limit is not None,
        time_limit_s=time_limit,
        **values,
    )
    return run_and_render(recipe, output, force=force, as_json=as_json, dry_run=dry_run, store=store)
