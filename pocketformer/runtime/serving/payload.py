"""What a client sent to ``/predict``, read and held to the limits; whatever is wrong becomes a ``RefusedError``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Optional

from pocketformer.runtime.errors import PocketformerError

_KEYS = ("text", "texts")


@dataclass(frozen=True)
class Limits:
    """How much the server takes.

    ``max_body``: bytes of a request; ``max_texts`` in it; ``max_characters`` of a text; ``concurrency``: requests that
    are read or answered at the same time; ``timeout_s``: seconds from a request's headers to its answer.
    """

    max_body: int = 1_000_000
    max_texts: int = 64
    max_characters: int = 10_000
    concurrency: int = 64
    timeout_s: float = 10.0


class RefusedError(PocketformerError):
    """The request is not answered: an HTTP status, why in words that the client may read, and further headers."""

    def __init__(self, status: int, message: str, headers: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Asked:
    """The texts of a request; ``single`` when one was sent by itself and not in a list."""

    texts: list[str]
    single: bool


async def read_body(
    chunks: AsyncIterator[bytes], content_type: str, declared: Optional[str], limits: Limits
) -> bytes:
    """The body of a request from its chunks as they arrive; never more in memory than ``max_body`` and one chunk.

    ``declared`` is its Content-Length, which a chunked request lacks. Raises ``RefusedError`` 415 and 413.
    """
    # Also what keeps web pages of others away: a browser sends JSON to another site only after asking that site.
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "the Content-Type must be application/json")
    too_large = RefusedError(413, f"the body is larger than {limits.max_body} bytes")
    if declared is not None and declared.isdigit() and int(declared) > limits.max_body:
        raise too_large
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limits.max_body:
            raise too_large
    return bytes(body)


def read_texts(body: bytes, limits: Limits) -> Asked:
    """The texts in a body: ``{"text": "..."}`` or ``{"texts": ["...", ...]}``. Raises ``RefusedError`` 400 and 422."""
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "the body is not JSON in UTF-8") from error
    wanted = 'the body must be {"text": "..."} or {"texts": ["...", ...]}'
    if not isinstance(document, dict) or len(document) != 1 or next(iter(document)) not in _KEYS:
        raise RefusedError(422, wanted)
    single = "text" in document
    texts = [document["text"]] if single else document["texts"]
    if not isinstance(texts, list):
        raise RefusedError(422, wanted)
    if len(texts) > limits.max_texts:
        raise RefusedError(
            422, f"{len(texts)} texts are more than the {limits.max_texts} that one request may hold"
        )
    for index, text in enumerate(texts):
        place = "text" if single else f"texts[{index}]"
        if not isinstance(text, str):
            raise RefusedError(422, f"{place} is not text")
        if len(text) > limits.max_characters:
            raise RefusedError(
                422, f"{place} has {len(text)} characters, at most {limits.max_characters} are taken"
            )
    return Asked(texts, single)
