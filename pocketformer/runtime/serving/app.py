"""The three addresses of the server as an ASGI application: ``/predict``, ``/health`` and ``/metrics``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Optional, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pocketformer.runtime.errors import UnavailableError
from pocketformer.runtime.microbatching import MicroBatcher
from pocketformer.runtime.serving.figures import CONTENT_TYPE, Figures
from pocketformer.runtime.serving.payload import Asked, Limits, RefusedError, read_body, read_texts

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pocketformer.runtime.results import Prediction

_PATHS = ("/predict", "/health", "/metrics")
_RETRY_AFTER_S = 1
_CLIENT_GONE = 499  # nginx's number for it; nobody reads the answer
logger = logging.getLogger(__name__)


class Service:
    """Answers requests with ``batcher`` within ``limits``; ``say`` is told, in a line, of what went wrong here."""

    def __init__(self, batcher: MicroBatcher, limits: Limits, say: Callable[[str], None]) -> None:
        self.batcher = batcher
        self.limits = limits
        self.say = say
        self.figures = Figures()

    def app(self) -> ASGIApp:
        """The application; it closes the queue when the server ends."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            await asyncio.get_running_loop().run_in_executor(None, self.batcher.close)

        app = Starlette(
            routes=[
                Route("/predict", self._predict, methods=["POST"]),
                Route("/health", self._health),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: _http_error, Exception: _defect},
            lifespan=lifespan,
        )
        app.router.redirect_slashes = False
        return self._counted(app)

    async def _predict(self, request: Request) -> Response:
        try:
            if self.figures.in_flight >= self.limits.concurrency:
                raise _later(f"{self.limits.concurrency} requests are being answered already")
            start = monotonic()
            self.figures.in_flight += 1
            try:
                asked = await self._read(request)
                answers = await self._answers(asked.texts, self.limits.timeout_s - (monotonic() - start))
            finally:
                self.figures.in_flight -= 1
                self.figures.seconds.observe(monotonic() - start)
        except RefusedError as refusal:
            return JSONResponse(
                {"error": refusal.message}, status_code=refusal.status, headers=refusal.headers
            )
        self.figures.answered += len(answers)
        rows = [{"label": answer.label, "score": answer.score} for answer in answers]
        return JSONResponse(rows[0] if asked.single else {"predictions": rows})

    async def _read(self, request: Request) -> Asked:
        headers = request.headers
        body = read_body(
            request.stream(), headers.get("content-type", ""), headers.get("content-length"), self.limits
        )
        try:
            return read_texts(await asyncio.wait_for(body, self.limits.timeout_s), self.limits)
        except asyncio.TimeoutError as error:
            # Closed, because the rest of the body may never come.
            raise RefusedError(
                408, f"the body was not there within {self.limits.timeout_s:g} s", {"connection": "close"}
            ) from error
        except ClientDisconnect as error:
            raise RefusedError(_CLIENT_GONE, "the client has gone") from error

    async def _answers(self, texts: list[str], left_s: float) -> list[Prediction]:
        """All answers or none: who is refused a place for one text gives up those of the others."""
        futures: list[asyncio.Future[Prediction]] = []
        try:
            for text in texts:
                futures.append(asyncio.wrap_future(self.batcher.submit(text)))
            return await asyncio.wait_for(asyncio.gather(*futures), left_s)
        except asyncio.TimeoutError as error:
            raise _later(f"no answer within {self.limits.timeout_s:g} s") from error
        except UnavailableError as error:
            raise _later(error.message) from error
        except Exception as error:
            self._tell(error)
            raise RefusedError(500, "the model failed on this request") from error
        finally:
            for future in futures:
                future.cancel()

    async def _health(self, _: Request) -> Response:
        """The model is loaded before the port opens: what answers is live and ready."""
        return JSONResponse({"status": "ready", "name": self.batcher.model.manifest.name})

    async def _metrics(self, _: Request) -> Response:
        manifest = self.batcher.model.manifest
        text = self.figures.exposition(
            bundle={"name": manifest.name, "precision": manifest.precision, "target": manifest.target},
            waiting=self.batcher.waiting,
            batches=self.batcher.batches,
        )
        return PlainTextResponse(text, headers={"content-type": CONTENT_TYPE})

    def _tell(self, error: BaseException) -> None:
        self.say(f"{type(error).__name__}: {error}")
        logger.debug("while answering a request", exc_info=error)

    def _counted(self, app: ASGIApp) -> ASGIApp:
        """``app`` with its responses counted; a defect in it is told here and reaches no client."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status: Optional[int] = None

            async def sending(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    # Any path may be asked for: as labels they would fill the memory.
                    self.figures.responses[scope["path"] if scope["path"] in _PATHS else "other", status] += 1
                await send(message)

            try:
                await app(scope, receive, sending)
            except Exception as error:  # noqa: BLE001 - the one place where a defect becomes an answer
                self._tell(error)

        return counted


def _later(message: str) -> RefusedError:
    return RefusedError(503, message, {"retry-after": str(_RETRY_AFTER_S)})


async def _http_error(_: Request, error: Exception) -> Response:
    """An address or a method that is not there, in JSON as all answers."""
    wrong = cast(HTTPException, error)
    return JSONResponse({"error": wrong.detail}, status_code=wrong.status_code, headers=wrong.headers)


async def _defect(_: Request, __: Exception) -> Response:
    """What a client learns of a defect: that there is one. Starlette raises it again for ``_counted``."""
    return JSONResponse({"error": "internal error"}, status_code=500)
