"""How numbers and names are written, once for all renderings."""

from __future__ import annotations

import re

from pocketformer.report.schema import (
    STANDARD_WORKLOADS,
    Evaluation,
    Interval,
    LoadGen,
    LoadGenRun,
    Percentiles,
    Report,
)

NOT_MEASURED = "not measured"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"

_METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "f1_macro": "macro F1",
    "matthews": "Matthews correlation",
}
_MODEL_NAMES = {
    "torch_eager": "Teacher, PyTorch eager",
    "onnxruntime_fp32": "Teacher, onnxruntime fp32",
    "result": "Result",
}
# A line break, an escape sequence or a text-direction override of a text must not reach a terminal or a page.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def one_line(text: str) -> str:
    """A user's text on one line, with control characters replaced by a space."""
    return _CONTROL.sub(" ", text).strip()


def several_lines(text: str) -> str:
    """A user's text with its line breaks and indents kept, other control characters replaced by a space."""
    return "\n".join(_CONTROL.sub(" ", line) for line in text.split("\n"))


def shortened(text: str, length: int) -> str:
    """At most ``length`` characters of ``one_line(text)``, with an ellipsis where it was cut."""
    line = one_line(text)
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def signed(number: str) -> str:
    """A number with a true minus sign."""
    return number.replace("-", MINUS)


def _plain_zero(number: str) -> str:
    return number[1:] if number.startswith("-") and not number.strip("-0.") else number


def metric_in_words(metric_name: str, evaluation: Evaluation) -> str:
    """The metric in words; without labels it is agreement with the teacher."""
    if evaluation.basis == "teacher":
        return "agreement with the teacher"
    return _METRIC_NAMES.get(metric_name, one_line(metric_name))


def metric_label(report: Report) -> str:
    """The report's metric in words."""
    return metric_in_words(report.metric_name, report.evaluation)


def model_label(key: str) -> str:
    """``torch_eager``, ``onnxruntime_fp32`` or ``result`` in words."""
    return _MODEL_NAMES.get(key, key)


def workload_label(workload: str) -> str:
    """A workload in words: ``8x128`` becomes ``8 × 128 tokens``."""
    if workload == "real":
        return "Real inputs, batch 1"
    match = re.fullmatch(r"(\d+)x(\d+)", workload)
    return f"{match[1]} {TIMES} {match[2]} tokens" if match else workload


def workload_order(workloads: set[str]) -> list[str]:
    """The standard workloads first, then the rest by name."""
    return [w for w in STANDARD_WORKLOADS if w in workloads] + sorted(workloads - set(STANDARD_WORKLOADS))


def percent(value: float | None, digits: int = 1) -> str:
    """0.928 as ``92.8%``."""
    return NOT_MEASURED if value is None else signed(_plain_zero(f"{100 * value:.{digits}f}")) + "%"


def is_whole_percent(value: float) -> bool:
    """Whether ``value`` needs no digit after the point."""
    return abs(value * 100 - round(value * 100)) < 1e-6


def points(value: float | None, *, plus: bool = False) -> str:
    """A difference of fractions in hundredths: 0.006 as ``0.6``."""
    if value is None:
        return NOT_MEASURED
    number = _plain_zero(f"{100 * value:.1f}")
    return signed("+" + number if plus and float(number) > 0 else number)


def points_in_words(value: float | None) -> str:
    """``1.0 point``, ``0.6 points``."""
    number = points(value)
    return number if value is None else f"{number} {'point' if number == '1.0' else 'points'}"


def capitalised(text: str) -> str:
    """The first letter as a capital, the rest as it is."""
    return text[:1].upper() + text[1:]


def interval(bounds: Interval | None, *, as_points: bool = False) -> str:
    """``92.1% to 94.6%``, or in points ``−0.3 to 1.5``."""
    if bounds is None:
        return NOT_MEASURED
    write = points if as_points else percent
    return f"{write(bounds[0])} to {write(bounds[1])}"


def milliseconds(value: float | None) -> str:
    """Three significant digits: ``0.623 ms``, ``10.2 ms``, ``1,240 ms``."""
    return NOT_MEASURED if value is None else f"{three_digits(value)} ms"


def three_digits(value: float) -> str:
    """A positive number with three significant digits and no exponent."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 99.95:
        return f"{value:.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"


def megabytes(value: float | None) -> str:
    """10^6 bytes: ``91.0 MB``, ``7.62 MB``."""
    if value is None:
        return NOT_MEASURED
    return (
        f"{value:,.0f} MB" if value >= 999.5 else f"{value:.1f} MB" if value >= 9.995 else f"{value:.2f} MB"
    )


def millijoules(value: float) -> str:
    """``12.3 mJ``, and from a joule on ``1.24 J``."""
    return f"{three_digits(value / 1000)} J" if value >= 999.5 else f"{three_digits(value)} mJ"


def ratio(value: float | None) -> str:
    """``15.8×``."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.0f}{TIMES}" if value >= 99.95 else f"{value:.1f}{TIMES}"


def parameters(value: int | None) -> str:
    """``22.7 M``; small models in full."""
    if value is None:
        return NOT_MEASURED
    return f"{value / 1e6:,.1f} M" if value >= 100_000 else f"{value:,}"


def duration(seconds: float | None) -> str:
    """A run's own time: ``42 s``, ``7 min 05 s``, ``2 h 03 min``; a dash for what took none."""
    if seconds is None:
        return "—"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def percentiles(value: Percentiles | None) -> str:
    """``p50 / p90 / p99`` in ms."""
    if value is None:
        return NOT_MEASURED
    return " / ".join(three_digits(v) for v in (value.p50, value.p90, value.p99)) + " ms"


def load_title(load: LoadGen) -> str:
    """What LoadGen's scenarios are headed: MLPerf's name only where its LoadGen drove."""
    return f"{_by_loadgen(load, 'MLPerf LoadGen', 'Single-stream and offline')}: {load.note}"


def load_driver(load: LoadGen) -> str:
    """What drove the scenarios, in a sentence."""
    version = f" {one_line(load.version)}" if load.version else ""
    return _by_loadgen(
        load,
        f"The same model driven by MLPerf's load generator{version}.",
        "The same model driven by our own loop, of the same rules as LoadGen's scenarios: MLPerf's LoadGen was not "
        "installed there.",
    )


def load_line(load: LoadGen) -> str:
    """That there are such figures, for a terminal."""
    what = _by_loadgen(load, "LoadGen figures", "Single-stream and offline figures of our own loop")
    return f"{what} are in the report ({load.note})."


def load_check(run: LoadGenRun, load: LoadGen) -> str:
    """LoadGen's verdict on the length of a run."""
    if run.valid is None:
        return _by_loadgen(load, NOT_MEASURED, "none")
    return "valid" if run.valid else "run too short"


def _by_loadgen(load: LoadGen, loadgen: str, own: str) -> str:
    return loadgen if load.driver == "mlcommons-loadgen" else own


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``1,000 rows``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
