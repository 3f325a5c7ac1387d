"""``pocketformer serve``: answer over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from pocketformer.cli.noise import Noise
from pocketformer.cli.options import PATH, Duration, key_option, verbose_option

_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9}


class ByteSize(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A size: ``500000`` (bytes), ``500KB``, ``1MB`` (10^6 bytes)."""

    name = "size"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> int:
        """Bytes."""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        factor = _UNITS.get(text[-2:], 0)
        number = text[:-2].strip() if factor else text
        if not (number.isascii() and number.isdigit()) or int(number) == 0:
            self.fail(f"{value!r} is not a size; write 500000, 500KB or 1MB", param, ctx)
        return int(number) * (factor or 1)


@click.command("serve")
@click.argument("bundle", type=PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any that is free."
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Texts computed together. Above 1, answers of dynamic int8 depend on who else asks.",
)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(0, 60_000),
    default=0.0,
    show_default=True,
    help="How long a text waits for company.",
)
@click.option(
    "--max-body", type=ByteSize(), default="1MB", show_default=True, help="Largest body of a request."
)
@click.option(
    "--max-texts", type=click.IntRange(min=1), default=64, show_default=True, help="Texts in a request."
)
@click.option(
    "--max-characters",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Characters in a text.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Requests at the same time; more get 503.",
)
@click.option(
    "--timeout", type=Duration(), default="10s", show_default=True, help="From a request to its answer."
)
@key_option
@verbose_option
@click.pass_obj
def command(
    noise: Noise,
    bundle: Path,
    host: str,
    port: int,
    max_batch: int,
    max_wait_ms: float,
    max_body: int,
    max_texts: int,
    max_characters: int,
    concurrency: int,
    timeout: float,
    key: Optional[Path],
) -> None:
    """Answer over HTTP with the model in BUNDLE: POST /predict, GET /health, GET /metrics.

    BUNDLE is a directory or an archive (.pfz).
    There is neither TLS nor a password: what faces a network belongs behind a proxy that has them. On SIGTERM or
    Ctrl-C it answers the requests that were begun, and ends with 0.
    """
    from pocketformer.runtime.serving.payload import Limits
    from pocketformer.runtime.serving.server import require_server, serve

    require_server()
    from pocketformer.runtime.model import load

    serve(
        load(bundle, key=key),
        host=host,
        port=port,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        limits=Limits(max_body, max_texts, max_characters, concurrency, timeout),
        say=lambda line: click.echo(line, err=True),
        log_level="info" if noise.shown else "error",
    )
