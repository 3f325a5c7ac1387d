"""``pocketformer quantize``: make int8 candidates and take the measured best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pocketformer.cli.options import PATH, Fraction, data_options, data_section, run_options


@click.command("quantize")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option("--candidate", "candidates", multiple=True, help="Only these candidates. Default: all.")
@click.option(
    "--max-drop", type=Fraction(), default="1%", show_default=True, help="What validation may fall by."
)
@run_options
def command(
    model: Path,
    candidates: tuple[str, ...],
    max_drop: float,
    output: Path,
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Quantize MODEL (a run with an exported graph, or a directory, which is exported first)."""
    from pocketformer.cli.running import run_and_render, step_recipe
    from pocketformer.pipeline.rundir import read_run

    data = data_section(values)
    record = read_run(model) if model.is_dir() else None
    exported = record is not None and "graph" in record["artefacts"]
    settings: dict[str, Any] = {"candidates": list(candidates)} if candidates else {}
    steps: list[Any] = [*([] if exported else ["export"]), {"quantize": settings}]
    recipe = step_recipe(model, steps, values, data)
    budget = recipe.budget.model_copy(update={"max_drop": max_drop})
    recipe = recipe.model_copy(update={"budget": budget})
    return run_and_render(recipe, output, force=force, as_json=as_json)
