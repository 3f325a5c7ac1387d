"""``pocketformer choose``: another budget, answered from the models of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, budget_options, budget_section, json_option, verbose_option


@click.command("choose")
@click.argument("run", type=PATH)
@click.option(
    "--model", type=click.IntRange(min=1), help="Take the one of this number in the search's table."
)
@budget_options(max_drop=None)
@click.option("-o", "--output", type=PATH, required=True, help="Run directory to write.")
@click.option("--force", is_flag=True, help="Replace another run there; files that no run made stay.")
@json_option
@verbose_option
def command(
    run: Path,
    model: Optional[int],
    output: Path,
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Take the best model for another budget from RUN, a directory where `compress --search` ran.

    Nothing is trained: the model is exported, packed and measured on test and on this machine, in a minute or so.
    Limits that are not given do not hold; without any, those of the search do. Exit code 3 when no model keeps them:
    the nearest one is delivered.
    """
    from pocketformer.cli.running import run_and_render
    from pocketformer.pipeline.search.choosing import choose_recipe
    from pocketformer.pipeline.search.stage import describe

    budget = budget_section(values)
    given = any(value is not None for value in budget.values())
    recipe, judgement = choose_recipe(run, budget=budget if given else None, model=model)
    click.echo(f"{'Taken' if judgement.kept else 'Nearest'}: {describe(judgement.trial)}", err=True)
    for missing in judgement.missing:
        click.echo(f"  {missing}", err=True)
    return run_and_render(recipe, output, force=force, as_json=as_json)
