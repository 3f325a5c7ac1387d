"""What the server counts, in the text format of Prometheus (version 0.0.4).

Seven figures of one process need no client library: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds; a small model on two cores answers in about a millisecond.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Observations counted in buckets; ``bounds`` are their upper ends, inclusive and ascending."""

    def __init__(self, bounds: Sequence[float] = BUCKETS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        """Cumulative buckets, sum and count."""
        lines, below = [], 0
        for bound, count in zip((*map(_number, self.bounds), "+Inf"), self.counts):
            below += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*lines, f"{name}_sum {_number(self.total)}", f"{name}_count {below}"]


class Figures:
    """What one server counts. It belongs to the event loop's thread: nothing is locked."""

    def __init__(self) -> None:
        self.responses: Counter[tuple[str, int]] = Counter()
        self.seconds = Histogram()
        self.in_flight = 0
        self.answered = 0

    def exposition(self, *, bundle: Mapping[str, str], waiting: int, batches: int) -> str:
        """All figures as text; ``bundle`` describes what is served, the rest is the queue's."""
        prefix = "pocketformer"
        responses = [
            f"{prefix}_responses_total{_labels({'path': path, 'status': str(status)})} {count}"
            for (path, status), count in sorted(self.responses.items())
        ]
        families: Iterable[tuple[str, str, str, list[str]]] = (
            ("bundle_info", "gauge", "What is served.", [f"{prefix}_bundle_info{_labels(bundle)} 1"]),
            ("responses_total", "counter", "Responses by path and HTTP status.", responses),
            (
                "predict_seconds",
                "histogram",
                "Seconds from the headers of a request to its answer, refusals included.",
                self.seconds.lines(f"{prefix}_predict_seconds"),
            ),
            (
                "requests_in_flight",
                "gauge",
                "Requests to /predict that are read or answered now.",
                [f"{prefix}_requests_in_flight {self.in_flight}"],
            ),
            ("texts_total", "counter", "Texts answered.", [f"{prefix}_texts_total {self.answered}"]),
            ("waiting_texts", "gauge", "Texts in the queue.", [f"{prefix}_waiting_texts {waiting}"]),
            ("batches_total", "counter", "Batches computed.", [f"{prefix}_batches_total {batches}"]),
        )
        lines: list[str] = []
        for name, kind, meaning, samples in families:
            lines += [f"# HELP {prefix}_{name} {meaning}", f"# TYPE {prefix}_{name} {kind}", *samples]
        return "\n".join(lines) + "\n"


def _labels(values: Mapping[str, str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in values.items()) + "}"


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)
