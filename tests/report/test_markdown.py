from __future__ import annotations

import re

import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pocketformer.report.markdown import escape, render_markdown
from pocketformer.report.model_card import render_model_card
from pocketformer.report.schema import Report

_RENDERER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


def test_every_table_is_whole(sample_report: Report) -> None:
    lines = render_markdown(sample_report).splitlines()
    tables = re.split(r"\n(?!\|)", "\n".join(lines))
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) > 60
    for block in tables:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines() if row.startswith("|")}
        assert len(widths) <= 1, block


def test_it_says_what_the_page_says(sample_report: Report) -> None:
    text = render_markdown(sample_report)
    for part in (
        "Budget met", "15.8×", "11.9×", "0.6", "−0.3 to 1.5", "not an MLPerf result", "Tried and not taken",
        "Where it answers differently", "TF-IDF", "10,071", "Apache-2.0",
    ):  # fmt: skip
        assert part in text, part


def test_a_hostile_text_stays_text(sample_report: Report) -> None:
    html = _RENDERER.render(render_markdown(sample_report))
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


@given(st.text(max_size=60))
def test_escaped_text_renders_as_itself(text: str) -> None:
    from html import unescape

    shown = unescape(re.sub(r"</?(p|em)>", "", _RENDERER.render(escape(text)))).replace("\u200b", "")
    plain = "".join(" " if ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in _GONE else c for c in text)
    assert re.sub(r"\s+", "", shown) == re.sub(r"\s+", "", plain.replace("\u200b", ""))
    assert "<" not in re.sub(r"</?p>", "", _RENDERER.render(escape(text)))


_GONE = "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def test_nobody_is_notified() -> None:
    assert "@" not in escape("hello @octocat")
    assert "://" not in escape("see https://example.invalid")


def test_a_bare_report_renders(bare_report: Report, unlabelled_report: Report) -> None:
    assert "not measured" in render_markdown(bare_report)
    assert "accuracy was not measured" in render_markdown(unlabelled_report)
    assert "Not measured." in render_model_card(bare_report)


def test_the_model_card_has_a_header_and_a_licence(sample_report: Report, bare_report: Report) -> None:
    card = render_model_card(sample_report)
    _, header, body = card.split("---\n", 2)
    fields = yaml.safe_load(header)
    assert fields["license"] == "apache-2.0"
    assert fields["base_model"] == "sample-minilm-trec"
    assert fields["pipeline_tag"] == "text-classification"
    assert "**Apache-2.0**" in body
    assert "load('bundles/cpu')" in body
    assert "weakest class is ENTY" in body
    bare = render_model_card(bare_report)
    assert "not known" in bare
    assert yaml.safe_load(bare.split("---\n", 2)[1])["license"] == "unknown"


def test_a_hostile_name_does_not_break_the_card(sample_report: Report, hostile_text: str) -> None:
    data = sample_report.model_dump(mode="json")
    data["lineage"]["teacher"]["name"] = hostile_text + "\n---\nlicense: mit"
    _, header, _ = render_model_card(Report.model_validate(data)).split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "apache-2.0"
