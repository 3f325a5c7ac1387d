"""``pocketformer init``: write a commented recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from pocketformer.cli.options import PATH, verbose_option
from pocketformer.cli.output import write_file
from pocketformer.runtime.errors import RunDirectoryError


@click.command("init")
@click.argument("path", type=PATH, default=Path("recipe.yaml"))
@click.option("--model", type=PATH, help="Put this model into the recipe.")
@click.option("--train", type=PATH, help="Put this train file into the recipe.")
@click.option("--test", type=PATH, help="Put this test file into the recipe.")
@click.option("--force", is_flag=True, help="Overwrite PATH.")
@verbose_option
def command(
    path: Path, model: Optional[Path], train: Optional[Path], test: Optional[Path], force: bool
) -> None:
    """Write a recipe with every key explained to PATH (default: recipe.yaml)."""
    from pocketformer.pipeline.template import recipe_template

    if path.exists() and not force:
        raise RunDirectoryError(
            f"{path} exists", hint="Choose another name, or pass --force to overwrite it."
        )
    write_file(path, recipe_template(model=model, train=train, test=test))
    click.echo(f"Wrote {path}. Edit it, then: pocketformer run {path} -o out/")
