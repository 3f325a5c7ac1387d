from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from pocketformer.report.compare import compare_reports, print_comparison
from pocketformer.report.schema import Report
from pocketformer.report.storage import save_report
from pocketformer.report.terminal import print_report


def _console(width: int = 110) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, color_system=None), out


def test_the_summary(sample_report: Report, tmp_path: Path) -> None:
    save_report(sample_report, tmp_path)
    console, out = _console()
    print_report(sample_report, console, directory=tmp_path)
    text = out.getvalue()
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines[0].startswith("Budget met")
    for part in ("15.8×", "5.3×", "8 × 128 tokens", "−0.3 to 1.5", "7.61 MB", "Warning: Class ABBR"):
        assert part in text, part
    assert str(tmp_path / "report.json") in text
    assert "report.html" not in text, "it was not written"


def test_a_user_text_is_no_markup_and_no_escape_sequence(sample_report: Report) -> None:
    hostile = sample_report.model_copy(update={"verdict": "Budget met: [red]all[/red] [/] \x1b[2Jgood"})
    console, out = _console()
    print_report(hostile, console)
    assert "[red]all[/red] [/]" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_reports_without_numbers(bare_report: Report, unlabelled_report: Report) -> None:
    console, out = _console()
    print_report(bare_report, console)
    print_report(unlabelled_report, console)
    assert "no speed" in out.getvalue()


def test_a_failed_limit_is_listed(sample_report: Report) -> None:
    checks = [c.model_copy(update={"met": False}) for c in sample_report.budget_checks]
    failed = sample_report.model_copy(
        update={"budget_met": False, "budget_checks": checks, "needed": ["More data."]}
    )
    console, out = _console()
    print_report(failed, console)
    assert "Budget not met" in out.getvalue()
    assert "Size of the model files: 7.61 MB, allowed 8.00 MB" in out.getvalue()
    assert "Needed: More data." in out.getvalue()


def test_the_same_report_twice_differs_in_nothing(sample_report: Report) -> None:
    comparison = compare_reports(sample_report, sample_report)
    assert comparison.warnings == ()
    assert {change.change for change in comparison.changes} == {0.0}
    assert {change.better for change in comparison.changes} == {None}


def test_a_better_and_a_worse_number(sample_report: Report) -> None:
    data = sample_report.model_dump(mode="json")
    data["name"] = "Smaller"
    data["devices"][0]["result"] |= {"file_mb": 5.0, "metric": 0.920, "drop": 0.014}
    comparison = compare_reports(sample_report, Report.model_validate(data))
    found = {change.name: change for change in comparison.changes}
    assert (found["Model files"].better, found["Accuracy"].better, found["Drop"].better) == (
        True,
        False,
        False,
    )
    console, out = _console()
    print_comparison(comparison, console)
    assert "−34.3%" in out.getvalue()
    assert "−0.8 points" in out.getvalue()
    assert "+0.8 points" in out.getvalue()
    assert comparison.to_dict()["changes"][0]["name"] == "Accuracy"


def test_what_makes_a_comparison_doubtful(sample_report: Report, bare_report: Report) -> None:
    data = sample_report.model_dump(mode="json")
    data["environment"] |= {"cpu": "Other CPU", "packages": {"torch": "2.13.0", "onnxruntime": "1.20.0"}}
    data["devices"][0] |= {"name": "jetson", "threads": 4}
    data["lineage"]["data"][1]["sha256"] = "0" * 64
    data["lineage"]["teacher"]["sha256"] = "1" * 64
    data["evaluation"] |= {"rows": 900}
    data["metric_name"] = "f1"
    comparison = compare_reports(sample_report, Report.model_validate(data))
    text = "\n".join(comparison.warnings)
    for part in (
        "metrics differ", "different rows", "test data differ", "teachers differ", "devices differ", "thread counts",
        "machines differ", "onnxruntime differs: 1.31.1 and 1.20.0", "transformers differs: 4.57.6 and absent",
    ):  # fmt: skip
        assert part in text, part
    assert "train data differ" not in text
    assert "Accuracy" not in {change.name for change in comparison.changes}
    nothing = compare_reports(sample_report, bare_report)
    assert nothing.changes == ()
    assert any("no result" in warning for warning in nothing.warnings)
