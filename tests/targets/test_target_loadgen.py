"""LoadGen drives both scenarios, keeps quiet, writes nothing here, and does not take the process down."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketformer.runtime.errors import InputError
from pocketformer.targets.loadgen import run_loadgen


def test_single_stream_asks_for_one_sample_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # An audit.config lying about must not change the run.
    (tmp_path / "audit.config").write_text("*.*.max_query_count = 1\n")
    asked: list[list[int]] = []

    def predict(indices: list[int]) -> None:
        asked.append(indices)
        time.sleep(0.002)

    result = run_loadgen(predict, 20, "single_stream", min_duration_s=0.3, min_query_count=70)
    assert all(len(indices) == 1 and 0 <= indices[0] < 20 for indices in asked)
    assert len({indices[0] for indices in asked}) > 10
    assert result["valid"] is True
    assert result["note"] == "not an MLPerf result"
    assert 70 <= result["queries"] <= len(asked)
    assert 2.0 <= result["latency_ms"]["p50"] <= result["latency_ms"]["p90"] <= result["latency_ms"]["p99"]
    assert 0 < result["samples_per_s"] <= 500
    assert result["version"]
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["audit.config"]


def test_offline_hands_everything_on_in_batches(capfd: pytest.CaptureFixture[str]) -> None:
    asked: list[int] = []

    def predict(indices: list[int]) -> None:
        asked.append(len(indices))
        time.sleep(0.001 * len(indices))

    result = run_loadgen(predict, 20, "offline", batch_size=8, min_duration_s=0.2, min_query_count=50)
    assert max(asked) == 8
    assert result["latency_ms"] is None
    assert result["queries"] >= 50
    assert 0 < result["samples_per_s"] <= 1000
    assert result["scenario"] == "offline"
    assert capfd.readouterr().out == ""


def test_a_run_too_short_for_loadgen_is_not_valid(capfd: pytest.CaptureFixture[str]) -> None:
    result = run_loadgen(
        lambda _: time.sleep(0.001), 20, "single_stream", min_duration_s=0.0, min_query_count=5
    )
    assert result["valid"] is False
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("scenario", ["single_stream", "offline"])
def test_a_failure_inside_a_query_comes_out_as_itself(scenario: str) -> None:
    calls = 0

    def predict(indices: list[int]) -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError, match="the model broke"):
        run_loadgen(predict, 50, scenario, batch_size=4, min_duration_s=0.1)  # type: ignore[arg-type]
    assert calls == 10
    assert run_loadgen(lambda _: None, 5, "offline", min_duration_s=0.05)["queries"] > 0


@pytest.fixture
def ctrl_c_works() -> Iterator[None]:
    """A process started in the background has SIGINT ignored, and Python then raises nothing for it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to itself")
def test_ctrl_c_ends_the_run_and_leaves_loadgen_usable(ctrl_c_works: None) -> None:
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run_loadgen(lambda _: time.sleep(0.001), 5, "single_stream", min_duration_s=60.0)
    # Far from the minute that the run was to last, on however slow a machine.
    assert time.perf_counter() - start < 40.0
    assert run_loadgen(lambda _: None, 5, "single_stream", min_duration_s=0.05)["queries"] > 0


@pytest.mark.parametrize(
    ("count", "scenario", "options"),
    [
        (0, "offline", {}),
        (5, "server", {}),
        (5, "offline", {"batch_size": 0}),
        (5, "offline", {"min_duration_s": -1}),
    ],
)
def test_options_that_cannot_work_are_refused(count: int, scenario: str, options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        run_loadgen(lambda _: None, count, scenario, **options)  # type: ignore[arg-type]
