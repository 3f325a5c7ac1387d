"""The page in a real browser, spoken to through Chromium's own pipe (no driver package is needed)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pocketformer.report.html import render_html
from pocketformer.report.schema import Report

_CHROMIUM = next(
    (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        _CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
    ),
]
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
# Chromium wants its pipe on descriptors 3 and 4.
_START = """import os, sys
os.dup2(int(sys.argv[1]), 3), os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""


class _Browser:
    def __init__(self, profile: Path) -> None:
        self._buffer, self._count, self.events = b"", 0, list[dict[str, Any]]()
        (read_in, self._write), (self._read, write_out) = os.pipe(), os.pipe()
        # Out of the way of 3 and 4, so that neither is overwritten before it is copied.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read_in, write_out)]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _START,
                *map(str, ends),
                str(_CHROMIUM),
                *_FLAGS,
                f"--user-data-dir={profile}",
            ],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (read_in, write_out, *ends):
            os.close(end)

    def start(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.page(f"{domain}.enable")

    def call(self, method: str, session: str | None = None, /, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        os.write(
            self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        )
        while (answer := self._next()).get("id") != self._count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def page(self, method: str, **params: Any) -> dict[str, Any]:
        return self.call(method, self._session, **params)

    def evaluate(self, script: str) -> Any:
        return self.page("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def open(self, path: Path) -> None:
        self.events.clear()
        self.page("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())

    def heard(self, *methods: str) -> list[dict[str, Any]]:
        return [e["params"] for e in self.events if e.get("method") in methods]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 16)
            assert chunk, "Chromium ended"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Browser]:
    opened = _Browser(tmp_path_factory.mktemp("chromium"))
    try:
        opened.start()
        yield opened
    finally:
        opened.close()


@pytest.fixture(params=["one device", "a fleet"])
def page(sample_report: Report, fleet_report: Report, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "report.html"
    report = fleet_report if request.param == "a fleet" else sample_report
    path.write_text(render_html(report), encoding="utf-8")
    return path


def _complaints(browser: _Browser) -> list[dict[str, Any]]:
    return browser.heard("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")


def _requests(browser: _Browser) -> list[str]:
    return [e["request"]["url"] for e in browser.heard("Network.requestWillBeSent")]


def test_no_request_and_no_complaint(browser: _Browser, page: Path) -> None:
    browser.open(page)
    assert browser.evaluate("document.querySelectorAll('svg.chart').length") >= 11
    assert [url for url in _requests(browser) if not url.startswith("data:")] == [page.as_uri()]
    assert _complaints(browser) == []
    assert browser.evaluate("document.querySelectorAll('script,img,iframe').length") == 0


def test_a_page_that_does_ask_is_noticed(browser: _Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<img src='http://127.0.0.1:9/x.png'><script>console.error('x')</script>", encoding="utf-8"
    )
    browser.open(bad)
    assert "http://127.0.0.1:9/x.png" in _requests(browser)
    assert _complaints(browser)


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_sticks_out(browser: _Browser, page: Path, width: int) -> None:
    browser.page(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
    )
    browser.open(page)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser: _Browser, page: Path, scheme: str) -> None:
    browser.page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page)
    weak = browser.evaluate(_CONTRAST)
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 24, 28)") is (scheme == "dark")
    assert weak == []


# WCAG AA: 4.5 to 1 against the nearest opaque background, 3 to 1 for large text.
_CONTRAST = """(() => {
  const rgb = s => s.match(/[\\d.]+/g).map(Number);
  const light = s => { const [r, g, b] = rgb(s).slice(0, 3).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (rgb(c).length === 3 || rgb(c)[3] === 1) return c; } return 'rgb(255, 255, 255)'; };
  const weak = new Set();
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if (['title', 'style'].includes(e.localName)) continue;
    const style = getComputedStyle(e), svg = e.namespaceURI.endsWith('svg');
    const [a, b] = [light(svg ? style.fill : style.color), light(behind(e))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24;
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) weak.add(e.localName + '.' + (e.getAttribute('class') || ''));
  }
  return [...weak];
})()"""
