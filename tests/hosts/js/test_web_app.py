"""The web app in headless Chromium: answers as Python's, its own checks, strict CSP, no network, four views."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hosts.js.conftest import BENCHMARKS, python_rows, run, write_texts

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        shutil.which("chromium") is None,
        reason="Chromium is not installed (Debian: apt-get install chromium)",
    ),
]
DRIVER = BENCHMARKS / "evidence/inside/chromium.mjs"


@pytest.fixture(scope="module")
def chromium(web_app: Path, node_modules: Path) -> list[str]:
    return ["node", str(DRIVER), "--app", str(web_app), "--modules", str(node_modules)]


@pytest.fixture(scope="module")
def visit(chromium: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pictures")
    seen: dict[str, Any] = json.loads(run([*chromium, "page", str(folder)]))
    return seen | {"pictures": sorted(path.name for path in folder.iterdir())}


def test_a_visitor_gets_answers_and_the_self_test_holds(visit: dict[str, Any], small_bundle: Path) -> None:
    golden = json.loads((small_bundle / "golden.jsonl").read_text().splitlines()[0])
    assert visit["first"] == golden["label"]
    assert visit["typed"] == "who is the old king ?"
    names = ["manifest", "files", "golden", "load", "tokenizer", "logits", "labels"]
    assert visit["checks"] == [f"{name} true" for name in names]
    assert visit["problems"] == []


def test_the_page_works_without_a_network(visit: dict[str, Any]) -> None:
    assert visit["offline"] == visit["first"]


def test_no_foreign_script_runs(visit: dict[str, Any]) -> None:
    assert visit["scripts"] == {"inline": False, "evaluated": False}
    policy = visit["headers"]["content-security-policy"]
    assert "default-src 'self'; script-src 'self' 'wasm-unsafe-eval';" in policy
    assert "unsafe-inline" not in policy
    assert visit["headers"]["cross-origin-embedder-policy"] == "require-corp"


def test_nothing_runs_over_the_edge_in_any_view(visit: dict[str, Any]) -> None:
    assert visit["overflow"] == 0
    assert visit["pictures"] == ["phone-dark.png", "self-test.png", "wide-light.png"]


def test_answers_are_those_of_python(
    chromium: list[str], small_bundle: Path, tiny_texts: list[str], tmp_path: Path
) -> None:
    from evidence.nasty_texts import nasty_texts

    texts = [
        *tiny_texts[:10],
        *(text for text in nasty_texts(150, words=tiny_texts, seed=9) if len(text) < 2000),
    ]
    printed = run(
        [*chromium, "answers", str(small_bundle), str(write_texts(tmp_path / "texts", texts))]
    ).splitlines()
    for row, expected in zip(map(json.loads, printed), python_rows(small_bundle, texts), strict=True):
        assert row["input_ids"] == expected["input_ids"]
        assert row["logits"] == pytest.approx(expected["logits"], abs=1e-5)
        assert row["label"] == expected["label"]


def test_changed_bundles_are_refused(chromium: list[str], signed: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, key = signed
    changed = []
    for name in ("model.onnx", "manifest.json", "tokenizer.json", "golden.jsonl", "manifest.json.sig"):
        copy = shutil.copytree(bundle, tmp_path / name)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        changed.append(str(copy))
    printed = run([*chromium, "verify", str(bundle), *changed, "--key", str(key)], code=5).splitlines()
    assert [json.loads(line)["ok"] for line in printed] == [True] + [False] * len(changed)


def test_the_server_gives_the_page_and_nothing_else(web_app: Path) -> None:
    from http.client import HTTPConnection
    from urllib.parse import urlsplit

    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "PORT": "0"}
    with subprocess.Popen(
        ["node", "serve.mjs"], cwd=web_app, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = urlsplit(server.stdout.readline().strip())
            connection = HTTPConnection("127.0.0.1", address.port, timeout=60)

            def status(path: str, **headers: str) -> tuple[int, str | None]:
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                response.read()
                return response.status, response.getheader("Content-Encoding")

            assert status("/") == (200, None)
            assert status("/model/manifest.json", **{"Accept-Encoding": "gzip"}) == (200, "gzip")
            assert status("/app.mjs", **{"Accept-Encoding": "gzip, br"}) == (200, "br")
            for path in (
                "/package.json",
                "/serve.mjs",
                "/../package.json",
                "/%2e%2e/etc/passwd",
                "/model/../serve.mjs",
                "/%ff",
            ):
                assert status(path)[0] == 404
            connection.close()
        finally:
            server.terminate()
