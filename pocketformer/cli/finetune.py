"""``pocketformer finetune``: train a head and the model on labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, data_options, data_section, run_options


@click.command("finetune")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option("--epochs", type=float, help="Default: 4, less when validation stops improving.")
@click.option("--learning-rate", type=float, help="Default: by the model's width.")
@run_options
def command(
    model: Path,
    epochs: Optional[float],
    learning_rate: Optional[float],
    output: Path,
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Train MODEL (a directory or a run) on the labels in --train."""
    from pocketformer.cli.running import run_and_render, step_recipe

    data = data_section(values)
    training = {"epochs": epochs if epochs is not None else 4, "patience": 2, "learning_rate": learning_rate}
    recipe = step_recipe(model, [{"finetune": {"training": training}}], values, data)
    return run_and_render(recipe, output, force=force, as_json=as_json)
