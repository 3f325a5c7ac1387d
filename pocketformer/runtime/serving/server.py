"""The server process: a socket, uvicorn around the application, and an end that answers what was begun."""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pocketformer.runtime.errors import InputError, MissingDependencyError
from pocketformer.runtime.microbatching import MicroBatcher
from pocketformer.runtime.serving.payload import Limits

if TYPE_CHECKING:
    import uvicorn

    from pocketformer.runtime.model import Model

_BACKLOG = 128
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
DEFAULT_LIMITS = Limits()


def require_server() -> None:
    """Raise ``MissingDependencyError`` where the extra ``serve`` is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"serving needs a package that is not installed: {error.name}",
            hint="Install it with: pip install 'pocketformer[serve]'",
        ) from error


def serve(
    model: Model,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    max_batch: int = 1,
    max_wait_ms: float = 0.0,
    limits: Limits = DEFAULT_LIMITS,
    say: Callable[[str], None],
    log_level: str = "error",
) -> None:
    """Answer over HTTP until SIGTERM or SIGINT; requests that were begun are answered before this returns.

    ``port`` 0 takes a free one. Texts go through a ``MicroBatcher`` with ``max_batch`` and ``max_wait_ms``. ``say`` is
    told the address once it is open, and later of what went wrong, in a line each. ``log_level`` is uvicorn's.

    Raises ``InputError`` when the address cannot be had, ``MissingDependencyError`` without the extra ``serve``.
    """
    require_server()
    model.predict_one("")  # what cannot answer opens no port
    with contextlib.closing(listen(host, port)) as listener:
        server = make_server(
            model,
            max_batch=max_batch,
            max_wait_ms=max_wait_ms,
            limits=limits,
            say=say,
            log_level=log_level,
        )
        say(f"Serving {model.manifest.name} on {address(listener)}")
        server.run(sockets=[listener])


def make_server(
    model: Model,
    *,
    max_batch: int,
    max_wait_ms: float,
    limits: Limits,
    say: Callable[[str], None],
    log_level: str,
) -> uvicorn.Server:
    """The server of ``serve``, not yet running."""
    import uvicorn

    from pocketformer.runtime.serving.app import Service

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """uvicorn's own raises the signal again at the end; being told to stop is how a server ends well."""
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            previous = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
            try:
                yield
            finally:
                for number, handler in previous.items():
                    signal.signal(number, handler)

    # Of requests with one text all that are let in have a place; of those with many, the queue refuses some.
    waiting = max(limits.concurrency, 4 * limits.max_texts)
    batcher = MicroBatcher(model, max_batch=max_batch, max_wait_ms=max_wait_ms, max_waiting=waiting)
    return Server(
        uvicorn.Config(
            Service(batcher, limits, say).app(),
            http="h11",
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_config=None,
            log_level=log_level,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=math.ceil(limits.timeout_s) + 1,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ``InputError`` when there is none to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="Give another --host or --port; port 0 takes a free one.",
        ) from error


def address(listener: socket.socket) -> str:
    """Where to ask, such as http://127.0.0.1:8080."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
