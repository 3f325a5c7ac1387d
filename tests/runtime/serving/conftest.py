"""The server on a real socket: in a thread of this process, asked with http.client."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from pocketformer.runtime.model import Model
from pocketformer.runtime.serving.payload import Limits
from pocketformer.runtime.serving.server import listen, make_server

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Running:
    """A server that runs: its port, and what it said of things that went wrong."""

    port: int
    said: list[str]

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request over a connection of its own. A body that is no bytes and no iterator goes as JSON."""
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "__next__"):
            body, headers = json.dumps(body).encode(), {**JSON, **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())

    def predict(self, body: Any, **headers: str) -> Answer:
        return self.ask("POST", "/predict", body, headers)

    def figure(self, name: str) -> float:
        """A sample of /metrics by its name with labels; 0 when it is not there."""
        for line in self.ask("GET", "/metrics").body.decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def half_sent(self, body: bytes) -> socket.socket:
        """A connection over which all but the last byte of a request was sent, and which the server is reading."""
        before = self.figure("pocketformer_requests_in_flight")
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        connection.sendall(f"{head}\r\n\r\n".encode() + body[:-1])
        wait_until(lambda: self.figure("pocketformer_requests_in_flight") > before)
        return connection


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def running(
    model: Any, limits: Limits | None = None, max_batch: int = 1, max_wait_ms: float = 0.0
) -> Iterator[Running]:
    said: list[str] = []
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        server = make_server(
            model,
            max_batch=max_batch,
            max_wait_ms=max_wait_ms,
            limits=limits or Limits(),
            say=said.append,
            log_level="error",
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            yield Running(listener.getsockname()[1], said)
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractContextManager[Running]]:
    """A server for a with block: serving(model, limits, max_batch, max_wait_ms)."""
    return running


@pytest.fixture(scope="module")
def server(tiny_runtime: Model) -> Iterator[Running]:
    """A server of the tiny bundle with small limits."""
    limits = Limits(max_body=1000, max_texts=3, max_characters=100)
    with running(tiny_runtime, limits) as one:
        yield one
        assert one.said == []
