"""``pocketformer compress``: the whole chain, from a model, data and a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, Fraction, data_options, data_section, run_options


@click.command("compress")
@click.argument("model", type=PATH)
@data_options(required=True)
@click.option(
    "--target", "targets", multiple=True, default=("cpu",), show_default=True, help="See `targets list`."
)
@click.option(
    "--max-drop", type=Fraction(), default="1%", show_default=True, help="What accuracy may fall by."
)
@click.option(
    "--max-latency", type=click.FloatRange(min=0, min_open=True), help="Milliseconds, p50, one real text."
)
@click.option(
    "--max-size", type=click.FloatRange(min=0, min_open=True), help="Model files, in MB (10^6 bytes)."
)
@click.option(
    "--finetune/--no-finetune", default=None, help="Default: only when the model has no head for the labels."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, with the time and memory expected.")
@run_options
def command(
    model: Path,
    targets: tuple[str, ...],
    max_drop: float,
    max_latency: Optional[float],
    max_size: Optional[float],
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
    """
    from pocketformer.cli.running import run_and_render
    from pocketformer.pipeline.compress import compress_recipe

    data = data_section(values)
    budget = {"max_drop": max_drop, "max_latency_ms": max_latency, "max_size_mb": max_size}
    recipe = compress_recipe(
        model,
        data=data,
        targets=targets,
        budget={name: value for name, value in budget.items() if value is not None},
        finetune=finetune,
        **values,
    )
    return run_and_render(recipe, output, force=force, as_json=as_json, dry_run=dry_run)
