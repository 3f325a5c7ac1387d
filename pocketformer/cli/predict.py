"""``pocketformer predict``: ask a bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketformer.cli.options import PATH, json_option, key_option, verbose_option
from pocketformer.runtime.errors import InputError

if TYPE_CHECKING:
    from pocketformer.runtime.manifest import SessionSettings


@click.command("predict")
@click.argument("bundle", type=PATH)
@click.argument("texts", nargs=-1)
@click.option("--file", "source", type=PATH, help="One text a line; - for standard input.")
@click.option(
    "--provider",
    "providers",
    multiple=True,
    metavar="NAME",
    help="cpu, cuda or tensorrt, in place of the bundle's own; may be repeated, the preferred one first. "
    "What is not named runs nothing.",
)
@key_option
@json_option
@verbose_option
def command(
    bundle: Path,
    texts: tuple[str, ...],
    source: Path | None,
    providers: tuple[str, ...],
    key: Path | None,
    as_json: bool,
) -> None:
    """Label TEXTS with the model in BUNDLE, a directory or an archive (.pfz)."""
    from pocketformer.runtime.model import load

    asked = [*texts, *_lines(source)]
    if not asked:
        raise click.UsageError("give at least one text, or --file.")
    predictions = load(bundle, session=_session(bundle, providers, key), key=key).predict(asked)
    if as_json:
        rows = [{"text": p.text, "label": p.label, "score": p.score} for p in predictions]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for prediction in predictions:
        click.echo(f"{prediction.label}\t{prediction.score:.3f}\t{prediction.text}")


def _session(bundle: Path, providers: tuple[str, ...], key: Path | None) -> SessionSettings | None:
    """The bundle's settings with these providers, or None for its own."""
    if not providers:
        return None
    from dataclasses import replace

    from pocketformer.runtime.manifest import read_manifest
    from pocketformer.runtime.providers import provider_name

    names = tuple(dict.fromkeys(map(provider_name, providers)))
    return replace(read_manifest(bundle, key=key).session, providers=names)


def _lines(source: Path | None) -> list[str]:
    if source is None:
        return []
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source} is not UTF-8 (byte {error.start})", hint="Convert it with iconv."
        ) from error
    return [line for line in text.splitlines() if line.strip()]
