from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pocketformer.runtime.errors import DeviceError, InputError, VerificationError
from pocketformer.runtime.model import Model
from pocketformer.runtime.serving.payload import Limits
from pocketformer.runtime.serving.server import address, listen


class Planted:
    """A stand-in for a model that answers as ``answer`` says."""

    def __init__(self, model: Model, answer: Callable[[list[str]], Any]) -> None:
        self.manifest = model.manifest
        self.answer = answer

    def predict(self, texts: list[str], batch_size: int) -> Any:
        return self.answer(texts)


def test_one_text_and_many(server: Any, tiny_runtime: Model, tiny_texts: list[str]) -> None:
    for text in [*tiny_texts[:5], "", "cat \ud800 \U0001f408"]:
        answer = server.predict({"text": text})
        expected = tiny_runtime.predict_one(text)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == {"label": expected.label, "score": expected.score}
    answer = server.predict({"texts": tiny_texts[:3]}, **{"content-type": "application/json; charset=utf-8"})
    assert answer.json == {
        "predictions": [
            {"label": item.label, "score": item.score}
            for item in map(tiny_runtime.predict_one, tiny_texts[:3])
        ]
    }
    assert server.predict({"texts": []}).json == {"predictions": []}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"text": "\xff"}', 400, "not JSON in UTF-8"),
        (b"[" * 999, 400, "not JSON"),
        (b"[]", 422, "the body must be"),
        (b"{}", 422, "the body must be"),
        (b'{"text": "a", "texts": []}', 422, "the body must be"),
        (b'{"Text": "a"}', 422, "the body must be"),
        (b'{"texts": "a"}', 422, "the body must be"),
        (b'{"text": null}', 422, "text is not text"),
        (b'{"texts": ["a", 3]}', 422, "texts[1] is not text"),
        (b'{"texts": ["a", "a", "a", "a"]}', 422, "4 texts are more than the 3"),
        (json.dumps({"text": "a" * 101}).encode(), 422, "101 characters, at most 100"),
        (b" " * 1001, 413, "larger than 1000 bytes"),
        (b" " * 3_000_000, 413, "larger than 1000 bytes"),
    ],
    ids=lambda value: value[:30].decode("latin-1") if isinstance(value, bytes) else str(value),
)
def test_bodies_that_are_refused(server: Any, body: bytes, status: int, said: str) -> None:
    answer = server.ask("POST", "/predict", body, {"content-type": "application/json"})
    assert answer.status == status
    assert said in answer.json["error"]
    assert set(answer.json) == {"error"}


def test_a_chunked_body_is_held_to_the_limit_too(server: Any) -> None:
    headers = {"content-type": "application/json"}  # http.client sends an iterator in chunks
    assert server.ask("POST", "/predict", iter([b'{"text": ', b'"cat"}']), headers).status == 200
    answer = server.ask("POST", "/predict", iter([b" " * 400] * 500), headers)
    assert (answer.status, answer.json) == (413, {"error": "the body is larger than 1000 bytes"})


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"]
)
def test_other_content_types(server: Any, kind: str | None) -> None:
    answer = server.ask("POST", "/predict", b'{"text": "cat"}', {"content-type": kind} if kind else {})
    assert (answer.status, answer.json) == (415, {"error": "the Content-Type must be application/json"})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/predict/", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/predict", 405),
        ("POST", "/health", 405),
        ("DELETE", "/metrics", 405),
    ],
)
def test_other_addresses_and_methods(server: Any, method: str, path: str, status: int) -> None:
    answer = server.ask(method, path)
    assert answer.status == status
    assert answer.json.keys() == {"error"}
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("max_batch", [1, 8])
def test_many_clients_at_once(
    serving: Any, tiny_runtime: Model, tiny_texts: list[str], max_batch: int
) -> None:
    expected = [tiny_runtime.predict_one(text) for text in tiny_texts]
    wrong: list[object] = []
    with serving(tiny_runtime, max_batch=max_batch) as server:

        def ask() -> None:
            for text, wanted in zip(tiny_texts[:20], expected, strict=False):
                found = server.predict({"text": text}).json
                near = (
                    abs(found["score"] - wanted.score) < 1e-5
                    if max_batch > 1
                    else found["score"] == wanted.score
                )
                wrong.extend([found] * (found["label"] != wanted.label or not near))

        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
        assert not wrong
        assert server.figure("pocketformer_texts_total") == 160


def test_health(server: Any, tiny_runtime: Model) -> None:
    answer = server.ask("GET", "/health")
    assert (answer.status, answer.json) == (200, {"status": "ready", "name": tiny_runtime.manifest.name})


def test_figures(server: Any) -> None:
    names = {
        "texts": "pocketformer_texts_total",
        "fine": 'pocketformer_responses_total{path="/predict",status="200"}',
        "wrong": 'pocketformer_responses_total{path="/predict",status="422"}',
        "other": 'pocketformer_responses_total{path="other",status="404"}',
        "timed": "pocketformer_predict_seconds_count",
        "inf": 'pocketformer_predict_seconds_bucket{le="+Inf"}',
        "batches": "pocketformer_batches_total",
    }
    before = {key: server.figure(name) for key, name in names.items()}
    server.predict({"texts": ["cat", "dog"]})
    server.predict({"text": 3})
    server.ask("GET", "/nowhere")
    after = {key: server.figure(name) - before[key] for key, name in names.items()}
    assert after == {"texts": 2, "fine": 1, "wrong": 1, "other": 1, "timed": 2, "inf": 2, "batches": 2}
    assert server.figure("pocketformer_requests_in_flight") == 0
    answer = server.ask("GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'pocketformer_bundle_info{name="tiny",precision="fp32",target="cpu"} 1' in answer.body.decode()


def test_too_many_requests_at_once(serving: Any, tiny_runtime: Model) -> None:
    body = b'{"text": "cat"}'
    with serving(tiny_runtime, Limits(concurrency=1)) as server, server.half_sent(body) as slow:
        refused = server.predict({"text": "cat"})
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "1 requests" in refused.json["error"]
        assert server.ask("GET", "/health").status == 200  # who watches is let in
        slow.sendall(body[-1:])
        assert b"200 OK" in slow.recv(10_000)
        assert server.predict({"text": "cat"}).status == 200


def test_who_leaves_gives_the_place_back(serving: Any, tiny_runtime: Model) -> None:
    with serving(tiny_runtime, Limits(concurrency=1)) as server:
        server.half_sent(b'{"text": "cat"}').close()
        while server.predict({"text": "cat"}).status != 200:
            time.sleep(0.01)
        assert server.said == []


def test_a_body_that_never_comes(serving: Any, tiny_runtime: Model) -> None:
    with serving(tiny_runtime, Limits(timeout_s=0.05)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
            slow.sendall(
                b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
            )
            answer = b""
            while chunk := slow.recv(10_000):  # to the end: the connection is closed
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"not there within 0.05 s" in answer


def test_an_answer_that_takes_too_long(serving: Any, tiny_runtime: Model) -> None:
    gate = threading.Event()

    def answer(texts: list[str]) -> Any:
        assert gate.wait(30)
        return tiny_runtime.predict(texts)

    with serving(Planted(tiny_runtime, answer), Limits(timeout_s=0.2)) as server:
        refused = server.predict({"texts": ["cat", "dog"]})
        assert (refused.status, refused.json) == (503, {"error": "no answer within 0.2 s"})
        assert refused.headers["retry-after"] == "1"
        gate.set()


def test_more_texts_than_may_wait(serving: Any, tiny_runtime: Model) -> None:
    with serving(tiny_runtime, Limits(max_texts=2, concurrency=1)) as server:
        assert (
            server.predict({"texts": ["cat", "dog"]}).status == 200
        )  # as many as one request holds always may
    gate, entered = threading.Event(), threading.Event()

    def answer(texts: list[str]) -> Any:
        entered.set()
        assert gate.wait(30)
        return tiny_runtime.predict(texts)

    with serving(Planted(tiny_runtime, answer), Limits(max_texts=5, concurrency=7)) as server:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(server.predict({"texts": ["cat"] * 5}).status))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        threading.Thread(target=lambda: (entered.wait(30), threads_left(threads, 1), gate.set())).start()
        for thread in threads:
            thread.join(30)
    # One text is computed and 20 wait: of the six requests four and a fifth find room, none is answered by half.
    assert sorted(statuses) in ([200] * 4 + [503] * 2, [200] * 5 + [503])


def threads_left(threads: list[threading.Thread], gone: int) -> None:
    """Wait until so many of them have ended."""
    while sum(not thread.is_alive() for thread in threads) < gone:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (VerificationError("secret path"), 500, "the model failed on this request"),
        (RuntimeError("secret path"), 500, "the model failed on this request"),
        (DeviceError("the GPU is gone"), 503, "the GPU is gone"),
    ],
)
def test_a_model_that_fails(
    serving: Any, tiny_runtime: Model, error: Exception, status: int, shown: str
) -> None:
    def answer(texts: list[str]) -> Any:
        if "bad" in texts:
            raise error
        return tiny_runtime.predict(texts)

    with serving(Planted(tiny_runtime, answer), max_batch=4) as server:
        for body in ({"text": "bad"}, {"texts": ["cat", "bad"]}):
            refused = server.predict(body)
            assert (refused.status, refused.json) == (status, {"error": shown})
        assert server.predict({"text": "cat"}).status == 200
        told = [] if status == 503 else [f"{type(error).__name__}: secret path"] * 2
        assert server.said == told


def test_a_defect_reaches_no_client(serving: Any, tiny_runtime: Model) -> None:
    with serving(Planted(tiny_runtime, lambda texts: [object()])) as server:
        refused = server.predict({"text": "cat"})
        assert (refused.status, refused.json) == (500, {"error": "internal error"})
        assert server.ask("GET", "/health").status == 200
        assert server.said == ["AttributeError: 'object' object has no attribute 'label'"]


def test_bytes_that_are_no_http(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_an_address_that_cannot_be_had() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert address(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1 port {port}"):
            listen("127.0.0.1", port)
    with pytest.raises(InputError, match=r"cannot listen on no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0)
