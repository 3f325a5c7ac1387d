from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.report.svg import Canvas, Labels, LinearScale, LogScale

_POSITIVE = st.floats(1e-5, 1e5)


@given(_POSITIVE, st.floats(1.01, 1e4))
def test_ticks_are_round_and_inside(low: float, factor: float) -> None:
    high = low * factor
    for scale in (LinearScale((low, high), (0, 100)), LogScale((low, high), (0, 100))):
        ticks = scale.ticks()
        assert len(ticks) <= 12
        assert ticks == sorted(ticks)
        assert all(low * 0.998 <= t <= high * 1.002 for t in ticks)


def test_scales_place_and_clamp() -> None:
    linear, log = LinearScale((0, 10), (100, 0)), LogScale((1, 100), (0, 10))
    assert [linear(0), linear(10), linear(-5), linear(20)] == [100, 0, 100, 0]
    assert [log(1), log(10), log(1000), log(0)] == pytest.approx([0, 5, 10, 0])
    assert LinearScale((3, 3), (0, 10))(3) == 5


def test_labels_do_not_cover_each_other() -> None:
    labels = Labels(0, 0, 200, 100)
    spots = [labels.place(100, 50, "a label", 12) for _ in range(12)]
    placed = [s for s in spots if s is not None]
    assert 2 <= len(placed) < 12, "room for some, not for all"
    assert len(set(placed)) == len(placed)
    assert labels.place(100, 50, "x" * 60, 12, (10, 40)) is None


def test_what_is_written_is_escaped() -> None:
    canvas = Canvas(10, 10)
    canvas.text(0, 0, '<script>"&')
    canvas.dot(1, 1, 1, "point", tooltip="</title><script>")
    canvas.path([(0, 0), (1, 1)], "front", tooltip="<b>")
    root = ElementTree.fromstring(canvas.render('"><script>'))
    assert root.attrib["aria-label"] == '"><script>'
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
