"""Scales and a small canvas for inline SVG. Colours and fonts come from the page's style sheet.

Lengths are units of the viewBox. Everything that is written is escaped here, in one place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from pocketformer.report.wording import one_line

# Mean advance of a system sans-serif, as a share of the font size; good enough to keep labels apart.
_ADVANCE = 0.54


@dataclass(frozen=True)
class LinearScale:
    """Maps ``domain`` to ``span`` along a line."""

    domain: tuple[float, float]
    span: tuple[float, float]

    def __call__(self, value: float) -> float:
        """Where ``value`` lies; values outside are placed at the nearer end."""
        low, high = self.domain
        share = (value - low) / (high - low) if high > low else 0.5
        return self.span[0] + min(max(share, 0.0), 1.0) * (self.span[1] - self.span[0])

    def ticks(self, about: int = 4) -> list[float]:
        """Round numbers (1, 2, 5 x 10^n) inside the domain."""
        low, high = self.domain
        if high <= low:
            return [low]
        rough = (high - low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [step * i for i in range(first, last + 1)]


@dataclass(frozen=True)
class LogScale:
    """Maps a positive ``domain`` to ``span`` by the logarithm."""

    domain: tuple[float, float]
    span: tuple[float, float]

    def __call__(self, value: float) -> float:
        """Where ``value`` lies; values outside, and those not above 0, are placed at the nearer end."""
        low, high = (math.log(v) for v in self.domain)
        inner = LinearScale((low, high), self.span)
        return inner(math.log(value) if value > 0 else low)

    def ticks(self, about: int = 5) -> list[float]:
        """1, 2, 5 x 10^n inside the domain, thinned to powers of ten where there would be too many."""
        low, high = self.domain
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [
                f * 10.0**p for p in powers for f in factors if low * 0.999 <= f * 10.0**p <= high * 1.001
            ]
            if len(found) <= about + 1:
                break
        return found


@dataclass
class Canvas:
    """Collects shapes; ``render`` gives one accessible ``<svg>``."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, content: str, css: str = "", anchor: str = "start") -> None:
        """Write text with its baseline at ``y``; ``anchor`` is start, middle or end."""
        shown = escape(one_line(content))
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" class="{css}" text-anchor="{anchor}">{shown}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """Draw a straight line."""
        self.parts.append(f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" class="{css}"/>')

    def rect(self, x: float, y: float, width: float, height: float, css: str, radius: float = 0) -> None:
        """Draw a rectangle; a negative width or height draws nothing."""
        if width > 0 and height > 0:
            self.parts.append(
                f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" '
                f'rx="{_n(radius)}" class="{css}"/>'
            )

    def dot(self, x: float, y: float, radius: float, css: str, tooltip: str = "") -> None:
        """Draw a circle; ``tooltip`` shows under the pointer."""
        self._shape(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" class="{css}"', "circle", tooltip)

    def path(
        self, points: Sequence[tuple[float, float]], css: str, *, closed: bool = False, tooltip: str = ""
    ) -> None:
        """Draw straight lines through ``points``."""
        if points:
            d = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points) + ("Z" if closed else "")
            self._shape(f'<path d="{d}" class="{css}"', "path", tooltip)

    def _shape(self, opening: str, tag: str, tooltip: str) -> None:
        title = f"<title>{escape(one_line(tooltip))}</title></{tag}>" if tooltip else ""
        self.parts.append(f"{opening}>{title}" if title else f"{opening}/>")

    def render(self, label: str, css: str = "chart") -> str:
        """The picture; ``label`` says in words what it shows, for those who do not see it."""
        return (
            f'<svg class="{css}" viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f'aria-label="{escape(one_line(label))}" xmlns="http://www.w3.org/2000/svg">{"".join(self.parts)}</svg>'
        )


def text_width(content: str, size: float) -> float:
    """About how wide ``content`` is; wide scripts count double."""
    return sum((1.0 if ord(c) > 0x2E7F else _ADVANCE) * size for c in content)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


@dataclass
class Labels:
    """Places labels so that they do not cover each other, the points, or the frame."""

    left: float
    top: float
    right: float
    bottom: float
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def keep_clear(self, x: float, y: float, radius: float) -> None:
        """Nothing may be written here."""
        self.taken.append((x - radius, y - radius, x + radius, y + radius))

    def avoid_line(self, points: Sequence[tuple[float, float]]) -> None:
        """Nothing may be written across these straight, upright or level, lines."""
        for (x1, y1), (x2, y2) in pairwise(points):
            self.taken.append((min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2) + 1, max(y1, y2) + 1))

    def place(
        self, x: float, y: float, content: str, size: float, gaps: Sequence[float] = (11.0,)
    ) -> tuple[float, float, str, float] | None:
        """Where to write a label for the point: (x, baseline, anchor, gap); ``None`` when there is no room.

        ``gaps`` are the distances to try, nearest first.
        """
        width, up, down = text_width(content, size), size * 0.75, size * 0.25
        for gap in gaps:
            spots = (
                (x + gap, y + up / 2, "start"),
                (x - gap, y + up / 2, "end"),
                (x, y - gap, "middle"),
                (x, y + gap + up, "middle"),
                (x + gap * 0.7, y - gap * 0.8, "start"),
                (x - gap * 0.7, y - gap * 0.8, "end"),
                (x + gap * 0.7, y + gap * 0.8 + up, "start"),
                (x - gap * 0.7, y + gap * 0.8 + up, "end"),
            )
            for spot_x, baseline, anchor in spots:
                start = spot_x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
                box = (start - 2, baseline - up - 1, start + width + 2, baseline + down)
                inside = (
                    box[0] >= self.left
                    and box[2] <= self.right
                    and box[1] >= self.top
                    and box[3] <= self.bottom
                )
                if inside and not any(_overlap(box, other) for other in self.taken):
                    self.taken.append(box)
                    return spot_x, baseline, anchor, gap
        return None


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
