"""``pocketformer export``: write the model as ONNX and check it against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, data_options, data_section, run_options


@click.command("export")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option(
    "--exporter", type=click.Choice(["optimum", "dynamo"]), help="Default: optimum where it is installed."
)
@run_options
def command(
    model: Path, exporter: Optional[str], output: Path, force: bool, as_json: bool, **values: Any
) -> int:
    """Write MODEL (a directory or a run) as fp32 ONNX with dynamic batch and sequence."""
    from pocketformer.cli.running import run_and_render, step_recipe

    data = data_section(values)
    step: Any = {"export": {"exporter": exporter}} if exporter else "export"
    return run_and_render(step_recipe(model, [step], values, data), output, force=force, as_json=as_json)
