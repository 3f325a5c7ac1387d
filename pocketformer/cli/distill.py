"""``pocketformer distill``: let a smaller student imitate the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, Count, data_options, data_section, run_options


@click.command("distill")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option("--layers", type=Count(), help="Layers of the student: a number or a share. Default: keep all.")
@click.option(
    "--match", type=click.Choice(["hidden_states", "relations", "none"]), help="Imitated beside the logits."
)
@click.option("--epochs", type=float, help="Default: 6.")
@click.option("--learning-rate", type=float, help="Default: by the model's width.")
@run_options
def command(
    model: Path,
    layers: Any,
    match: Optional[str],
    epochs: Optional[float],
    learning_rate: Optional[float],
    output: Path,
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Distil MODEL (a directory with a trained head, or a run) into a student."""
    from pocketformer.cli.running import run_and_render, step_recipe

    data = data_section(values)
    training = {"epochs": epochs if epochs is not None else 6, "learning_rate": learning_rate}
    settings = {"layers": layers, "match": match}
    given = {name: value for name, value in settings.items() if value is not None}
    recipe = step_recipe(model, [{"distill": {**given, "training": training}}], values, data)
    return run_and_render(recipe, output, force=force, as_json=as_json)
