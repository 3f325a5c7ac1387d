from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from pocketformer.report.html import render_html
from pocketformer.report.markdown import render_markdown
from pocketformer.report.schema import Report
from pocketformer.report.terminal import print_report

_VOID = {"meta", "link", "br", "img", "hr", "input"}


class _Page(HTMLParser):
    """Checks nesting and collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "unclosed elements"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def test_the_verdict_and_the_three_numbers_come_first(sample_report: Report) -> None:
    words = _Page(render_html(sample_report)).words()
    order = [
        "Budget met",
        "Accuracy falls by 0.6 points",
        "faster than PyTorch",
        "smaller",
        "points of accuracy lost",
    ]
    order += [
        "Before you rely on this",
        "Against the budget",
        "What each step bought",
        "What the search saw",
        "Points lost, with 95% interval",
    ]
    places = [words.index(part) for part in order]
    assert places == sorted(places)


def test_it_needs_nothing_else(sample_report: Report) -> None:
    html = render_html(sample_report)
    page = _Page(html)
    assert not [tag for tag, _ in page.tags if tag in {"script", "iframe", "object", "img", "video"}]
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster"):
            link = attributes.get(name) or "#"
            assert link.startswith(("#", "data:")), (tag, link)
    assert "@import" not in html
    assert "url(" not in html
    assert "default-src 'none'" in html


def test_texts_of_the_user_are_escaped_everywhere(sample_report: Report, hostile_text: str) -> None:
    data = sample_report.model_dump(mode="json")

    def poison(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {k if key != "recipe" else hostile_text + k: poison(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [poison(v, key) for v in value]
        fixed = {"status", "note", "driver", "split", "basis", "role", "created", "latency_workload"}
        check_name = value in ("max_drop", "max_size_mb")
        return hostile_text if isinstance(value, str) and key not in fixed and not check_name else value

    hostile = poison(data)
    html = render_html(Report.model_validate(hostile))
    page = _Page(html)
    assert not [tag for tag, _ in page.tags if tag in {"script", "img"}]
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert html.count("&lt;script&gt;") > 60
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_it_can_be_read_without_eyes(sample_report: Report) -> None:
    page = _Page(render_html(sample_report))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids
        if tag == "a":
            assert (attributes["href"] or "").removeprefix("#") in ids
        if tag == "th":
            assert attributes["scope"] in {"col", "row"}
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert ("html", {"lang": "en"}) in page.tags


def test_loadgen_stands_apart(sample_report: Report) -> None:
    assert "MLPerf LoadGen: not an MLPerf result" in _Page(render_html(sample_report)).words()


def test_our_own_loop_is_not_called_loadgen(sample_report: Report) -> None:
    words = _Page(render_html(driven_by_our_own_loop(sample_report))).words()
    assert "MLPerf LoadGen:" not in words
    assert "Single-stream and offline: not an MLPerf result" in words
    assert "driven by our own loop" in words
    assert "driven by our own loop" not in _Page(render_html(sample_report)).words()


def driven_by_our_own_loop(report: Report) -> Report:
    data = report.model_dump(mode="json")
    load = data["devices"][0]["loadgen"]
    load |= {"driver": "own loop", "version": None}
    load["single_stream"]["valid"] = load["offline"]["valid"] = None
    return Report.model_validate(data)


def test_all_renderings_say_what_drove(sample_report: Report) -> None:
    own = driven_by_our_own_loop(sample_report)
    for text in (render_markdown(own), _terminal(own)):
        assert "own loop" in text
        assert "not an MLPerf result" in text
        assert "MLPerf LoadGen:" not in text
        assert "LoadGen figures" not in text
    assert "### MLPerf LoadGen: not an MLPerf result" in render_markdown(sample_report)
    assert "LoadGen figures are in the report (not an MLPerf result)." in _terminal(sample_report)


def _terminal(report: Report) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    print_report(report, console)
    return console.export_text()


def test_what_was_not_measured_says_so(bare_report: Report, unlabelled_report: Report) -> None:
    words = _Page(render_html(bare_report)).words()
    assert words.count("not measured") >= 3
    assert "A classical baseline was not measured" in words
    words = _Page(render_html(unlabelled_report)).words()
    assert "accuracy was not measured" in words
    assert "Emulated" in words
    assert "Latency: not measured" in words
    assert "points of agreement with the teacher lost" in words
    assert "ms →" not in words


def test_a_budget_that_is_not_met(sample_report: Report) -> None:
    failed = sample_report.model_copy(
        update={
            "budget_met": False,
            "verdict": "Budget not met: too big.",
            "needed": ["Keep 8,000 word pieces."],
        }
    )
    words = _Page(render_html(failed)).words()
    assert words.index("Budget not met Too big.") < words.index(
        "What would be needed Keep 8,000 word pieces."
    )


@pytest.mark.parametrize("missing", ["torch_eager", "onnxruntime_fp32"])
def test_a_baseline_may_be_missing(sample_report: Report, missing: str) -> None:
    data = sample_report.model_dump(mode="json")
    data["devices"][0]["baselines"][missing] = None
    key = {"torch_eager": "vs_torch", "onnxruntime_fp32": "vs_onnxruntime"}[missing]
    for speedup in data["devices"][0]["speedup"].values():
        speedup[key] = None
    words = _Page(render_html(Report.model_validate(data))).words()
    assert ("faster than onnxruntime fp32" in words) is (missing == "torch_eager")
