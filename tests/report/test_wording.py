from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.report import wording


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.percent(0.928), "92.8%"),
        (wording.percent(-0.0001), "0.0%"),
        (wording.percent(None), "not measured"),
        (wording.points(0.006), "0.6"),
        (wording.points(-0.003), "−0.3"),
        (wording.points(0.003, plus=True), "+0.3"),
        (wording.points(-0.0001, plus=True), "0.0"),
        (wording.points_in_words(0.01), "1.0 point"),
        (wording.points_in_words(None), "not measured"),
        (wording.interval((-0.003, 0.015), as_points=True), "−0.3 to 1.5"),
        (wording.milliseconds(0.6234), "0.623 ms"),
        (wording.milliseconds(9.996), "10.0 ms"),
        (wording.milliseconds(99.96), "100 ms"),
        (wording.milliseconds(1240.4), "1,240 ms"),
        (wording.megabytes(7.614), "7.61 MB"),
        (wording.megabytes(90.94), "90.9 MB"),
        (wording.megabytes(1234.5), "1,234 MB"),
        (wording.ratio(15.83), "15.8×"),
        (wording.ratio(120.2), "120×"),
        (wording.parameters(22_715_526), "22.7 M"),
        (wording.parameters(1234), "1,234"),
        (wording.duration(3.14), "3.1 s"),
        (wording.duration(59.7), "1 min 00 s"),
        (wording.duration(425), "7 min 05 s"),
        (wording.duration(7380), "2 h 03 min"),
        (wording.workload_label("8x128"), "8 × 128 tokens"),
        (wording.counted(1, "row"), "1 row"),
        (wording.counted(2000, "row"), "2,000 rows"),
    ],
)
def test_how_numbers_are_written(written: str, expected: str) -> None:
    assert written == expected


def test_workloads_keep_their_order() -> None:
    assert wording.workload_order({"8x128", "4x64", "real", "1x32"}) == ["real", "1x32", "8x128", "4x64"]


@given(st.text())
def test_one_line_holds_no_control_character(text: str) -> None:
    line = wording.one_line(text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\u2028" for c in line)
    assert len(wording.shortened(text, 10)) <= 10
