"""``pocketformer export``: write the model as ONNX, or in another form that a device takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.options import PATH, data_options, data_section, device_options, reached, run_options

_PRECISIONS = {"tensorrt": ("fp32", "fp16", "int8", "int8-fp16"), "litert": ("fp32", "int8")}


@click.command("export")
@click.argument("model", type=PATH)
@data_options(required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "tensorrt", "litert", "ort", "text-graph"]),
    default="onnx",
    show_default=True,
    help="tensorrt builds an engine, which nothing here runs. litert writes a bundle for LiteRT. Of a finished bundle, "
    "ort writes one in onnxruntime's own format, and text-graph an ONNX file that takes text and answers.",
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
    help="Of a TensorRT engine, where int8 is calibrated on --train, default fp16; or of LiteRT: fp32 or int8, the "
    "default.",
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
@click.option(
    "--characters",
    help="Of a text-graph: all that your app lets through, as in a regular expression: 'a-zA-Z0-9 .,?!-'.",
)
@click.option(
    "--longest",
    type=click.IntRange(1, 1000),
    help="Of a text-graph with --characters: the longest text, in characters.  [default: 200]",
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
    characters: Optional[str],
    longest: Optional[int],
    output: Path,
    force: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Write MODEL (a directory or a run) as fp32 ONNX with dynamic batch and sequence, or in another form.

    For ort and text-graph MODEL is a finished bundle, or a run that has one, and --train and --test name texts of yours
    on which the new form must answer as the bundle does.
    """
    given = reached(values)
    if form != "tensorrt" and (target or compute_capabilities or sparse_weights or given):
        raise click.UsageError("options of an engine or a device need --format tensorrt.")
    if precision and form not in _PRECISIONS:
        raise click.UsageError("--precision needs --format tensorrt or litert.")
    if precision and precision not in _PRECISIONS[form]:
        raise click.UsageError(f"--format {form} takes --precision {' or '.join(_PRECISIONS[form])}.")
    if form != "text-graph" and (characters or longest):
        raise click.UsageError("--characters and --longest need --format text-graph.")
    if longest and not characters:
        raise click.UsageError("--longest needs --characters.")
    if form in ("ort", "text-graph"):
        if exporter:
            raise click.UsageError("--exporter is for the model's own directory, not for a finished bundle.")
        return _of_a_bundle(
            model, output, form, values, characters=characters, longest=longest, force=force, as_json=as_json
        )
    from pocketformer.cli.running import run_and_render, step_recipe

    data = data_section(values)
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
    elif form == "litert":
        steps.append({"litert": {"precision": precision}} if precision else "litert")
    return run_and_render(step_recipe(model, steps, values, data), output, force=force, as_json=as_json)


def _of_a_bundle(
    model: Path,
    output: Path,
    form: str,
    values: dict[str, Any],
    *,
    characters: Optional[str],
    longest: Optional[int],
    force: bool,
    as_json: bool,
) -> int:
    from pocketformer.pipeline.formats import texts_of, to_ort, to_text_graph

    texts = texts_of([values["train"], values["validation"], values["test"]], values["text_column"])
    if form == "ort":
        written = to_ort(model, output, texts, force=force)
    else:
        written = to_text_graph(
            model, output, texts, characters=characters, longest=longest or 200, force=force
        )
    if as_json:
        click.echo(json.dumps(written.to_dict(), ensure_ascii=False))
        return 0
    click.echo(str(written.output))
    for note in written.notes:
        click.echo(f"  {note}")
    return 0
