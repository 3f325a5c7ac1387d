"""``pocketformer bench``: measure a bundle against its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, data_options, data_section, run_options


@click.command("bench")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option("--rounds", type=click.IntRange(min=5), help="Timed rounds per workload. Default: 40.")
@run_options
def command(
    model: Path, rounds: Optional[int], output: Path, force: bool, as_json: bool, **values: Any
) -> int:
    """Measure MODEL (a run with a bundle) on this machine, teacher and result interleaved, and report."""
    from pocketformer.cli.running import run_and_render, step_recipe

    data = data_section(values)
    step: Any = {"bench": {"rounds": rounds}} if rounds else "bench"
    recipe = step_recipe(model, [step, "report"], values, data)
    return run_and_render(recipe, output, force=force, as_json=as_json)
