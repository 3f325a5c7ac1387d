"""``pocketformer inspect``: what a model is made of."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pocketformer.cli.options import PATH, json_option, verbose_option


@click.command("inspect")
@click.argument("model", type=PATH)
@click.option(
    "--mobile",
    is_flag=True,
    help="Of an ONNX graph: what NNAPI, CoreML and XNNPACK could take of it on a phone, and what prevents more.",
)
@json_option
@verbose_option
def command(model: Path, mobile: bool, as_json: bool) -> None:
    """Parameters, MACs and bytes per part of MODEL, what can be pruned, and what each export would do.

    Of an ONNX file or a bundle its operators and precision; of a TensorRT engine its fingerprint, precision, layers and
    whether it fits this machine, all of it from what stands beside the engine: no TensorRT is needed.
    """
    from pocketformer.pipeline.inspect import inspect

    found = inspect(model, mobile=mobile)
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    for line in found.lines():
        click.echo(line)
