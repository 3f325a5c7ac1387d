"""``pocketformer export``: write the model as ONNX and check it against torch, or build a TensorRT engine of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, data_options, data_section, device_options, reached, run_options


@click.command("export")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "tensorrt"]),
    default="onnx",
    show_default=True,
    help="tensorrt also builds an engine of it, which nothing here runs.",
)
@click.option(
    "--exporter", type=click.Choice(["optimum", "dynamo"]), help="Default: optimum where it is installed."
)
@click.option(
    "--target",
    help="Profile of the device that shall run the engine, such as tensorrt-rtx-sm89: its compute capability, "
    "precision and library, where they are not named. One with an address, or ssh://user@host, builds it there.",
)
@device_options
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int8-fp16"]),
    help="Of a TensorRT engine; int8 is calibrated on --train. Default: fp16.",
)
@click.option(
    "--compute-capability",
    "compute_capabilities",
    multiple=True,
    help="Of a GPU that shall run the engine, such as 8.9; may be repeated. Default: 8.0, 8.6, 8.9 and 12.0; on a "
    "device, that of its GPU.",
)
@click.option(
    "--sparse-weights",
    is_flag=True,
    help="Let TensorRT skip zeros where weights have two in every four (2:4), and say where they do.",
)
@run_options
def command(
    model: Path,
    form: str,
    exporter: Optional[str],
    target: Optional[str],
    precision: Optional[str],
    compute_capabilities: tuple[str, ...],
    sparse_weights: bool,
    output: Path,
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Write MODEL (a directory or a run) as fp32 ONNX with dynamic batch and sequence, or as a TensorRT engine."""
    from pocketformer.cli.running import run_and_render, step_recipe

    data = data_section(values)
    given = reached(values)
    steps: list[Any] = [{"export": {"exporter": exporter}} if exporter else "export"]
    if form == "tensorrt":
        settings: dict[str, Any] = {}
        if target:
            from pocketformer.pipeline.engine_stages import target_settings

            settings = target_settings(target, given)
        if given and "device" not in settings:
            raise click.UsageError("these options need a --target with an address: ssh://user@host.")
        if precision:
            settings["precision"] = precision
        if compute_capabilities:
            settings["compute_capabilities"] = list(compute_capabilities)
        elif target and "compute_capabilities" not in settings:
            raise click.UsageError(f"target {target} names no compute capability; add --compute-capability.")
        if sparse_weights:
            settings["sparse_weights"] = True
        steps.append({"tensorrt": settings})
    elif target or precision or compute_capabilities or sparse_weights or given:
        raise click.UsageError("options of an engine or a device need --format tensorrt.")
    return run_and_render(step_recipe(model, steps, values, data), output, force=force, as_json=as_json)
