"""``pocketformer run``: carry out a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from pocketformer.cli.options import PATH, json_option, store_option, verbose_option


@click.command("run")
@click.argument("recipe", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Run directory to write.")
@click.option("--force", is_flag=True, help="Replace another run there; files that no run made stay.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, with the time and memory expected.")
@store_option
@json_option
@verbose_option
def command(
    recipe: Path, output: Path, force: bool, dry_run: bool, store: Optional[str], as_json: bool
) -> int:
    """Carry out RECIPE, a YAML file that `pocketformer init` or an earlier run wrote."""
    from pocketformer.cli.running import run_and_render
    from pocketformer.pipeline.recipe import Recipe

    return run_and_render(
        Recipe.from_file(recipe), output, force=force, as_json=as_json, dry_run=dry_run, store=store
    )
