"""``pocketformer serve`` as a process: over a real socket, stopped with a signal."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pocketformer.runtime.model import load

BODY = b'{"text": "cat dog"}'


@pytest.fixture
def process(small_bundle: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The server and its port."""
    command = [sys.executable, "-m", "pocketformer", "serve", str(small_bundle), "--port", "0"]
    server = subprocess.Popen(
        [*command, "--concurrency", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        said = server.stderr.readline()
        found = re.fullmatch(r"Serving tiny on http://127\.0\.0\.1:(\d+)\n", said)
        assert found, said
        yield server, int(found[1])
    finally:
        server.kill()
        server.communicate()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        connection.request(method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_answers_what_was_begun(
    process: tuple[subprocess.Popen[str], int], small_bundle: Path, number: signal.Signals
) -> None:
    server, port = process
    expected = load(small_bundle).predict_one("cat dog")
    status, body = ask(port, "POST", "/predict", BODY)
    assert (status, json.loads(body)) == (200, {"label": expected.label, "score": expected.score})
    with socket.create_connection(("127.0.0.1", port), timeout=30) as begun:
        head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}"
        begun.sendall(f"{head}\r\n\r\n".encode() + BODY[:-1])
        while b"pocketformer_requests_in_flight 1\n" not in ask(port, "GET", "/metrics")[1]:
            time.sleep(0.01)
        server.send_signal(number)
        while listens(port):
            time.sleep(0.01)
        assert server.poll() is None
        begun.sendall(BODY[-1:])
        answer = b""
        while chunk := begun.recv(10_000):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == json.loads(body)
    out, err = server.communicate(timeout=30)
    assert (server.returncode, out, err) == (0, "", "")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
    except ConnectionError:  # refused, or reset where it waited to be accepted
        return False
    return True


def test_what_is_missing_is_said(cli: Any, small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    outcome = cli("serve", small_bundle)
    assert outcome.code == 4
    assert "pip install 'pocketformer[serve]'" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--max-body", "0"), "is not a size"),
        (("--max-body", "1TB"), "is not a size"),
        (("--max-body", "-1MB"), "is not a size"),
        (("--port", "65536"), "--port"),
        (("--timeout", "soon"), "--timeout"),
        (("--max-wait-ms", "nan"), "max_wait_ms nan"),
    ],
)
def test_options_that_make_no_server(
    cli: Any, small_bundle: Path, arguments: tuple[str, ...], said: str
) -> None:
    outcome = cli("serve", small_bundle, *arguments)
    assert outcome.code == 2
    assert said in outcome.err


def test_a_port_that_is_taken_and_a_bundle_that_is_none(cli: Any, small_bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = cli("serve", small_bundle, "--port", taken.getsockname()[1])
    assert outcome.code == 2
    assert "cannot listen on 127.0.0.1" in outcome.err
    assert cli("serve", tmp_path / "absent").code == 2


@pytest.mark.parametrize(("given", "size"), [("500", 500), ("2KB", 2000), ("1 mb", 10**6), (7, 7)])
def test_sizes(given: Any, size: int) -> None:
    from pocketformer.cli.serve import ByteSize

    assert ByteSize().convert(given, None, None) == size


def test_a_bundle_that_is_not_signed_is_not_served(
    cli: Any, small_bundle: Path, key_pair: tuple[Path, Path]
) -> None:
    outcome = cli("serve", small_bundle, "--key", key_pair[1])
    assert outcome.code == 5
    assert "manifest.json.sig" in outcome.err
    assert "Serving" not in outcome.err
