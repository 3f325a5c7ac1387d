"""Drives a model with MLPerf's LoadGen (package mlcommons-loadgen), single-stream or offline; without it, our own loop.

The figures stand beside our own and are no MLPerf result: runs last seconds, nothing was submitted.
LoadGen is C++: an exception that leaves one of its callbacks ends the process, and it prepares its queries
from an expected speed, too low a guess of which makes a run end early. Hence the care below.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Literal, Optional

from pocketformer.runtime.errors import InputError, MissingDependencyError, PocketformerError
from pocketformer.targets.query_loop import run_query_loop

NOTE = "not an MLPerf result"
DISTRIBUTIONS = ("mlcommons-loadgen", "mlperf-loadgen")
"""Those that bring the package mlperf_loadgen."""
LOADGEN, OWN_LOOP = "mlcommons-loadgen", "own loop"
"""What drove a scenario."""
Scenario = Literal["single_stream", "offline"]


def run_scenario(
    predict: Callable[[list[int]], object],
    sample_count: int,
    scenario: Scenario,
    *,
    batch_size: int = 32,
    min_duration_s: float = 3.0,
    min_query_count: int = 100,
    folder: Optional[Path] = None,
) -> dict[str, Any]:
    """As ``run_loadgen``, with its ``driver``: where LoadGen is not installed, our own loop of the same rules."""
    if _library() is None:
        _check(sample_count, scenario, batch_size, min_duration_s, min_query_count)
        own = run_query_loop(
            predict,
            sample_count,
            scenario,
            batch_size=batch_size,
            min_duration_s=min_duration_s,
            min_query_count=min_query_count,
        )
        return {"scenario": scenario, **own, "note": NOTE, "version": None, "driver": OWN_LOOP}
    figures = run_loadgen(
        predict,
        sample_count,
        scenario,
        batch_size=batch_size,
        min_duration_s=min_duration_s,
        min_query_count=min_query_count,
        folder=folder,
    )
    return {**figures, "driver": LOADGEN}


def run_loadgen(
    predict: Callable[[list[int]], object],
    sample_count: int,
    scenario: Scenario,
    *,
    batch_size: int = 32,
    min_duration_s: float = 3.0,
    min_query_count: int = 100,
    folder: Optional[Path] = None,
) -> dict[str, Any]:
    """Let LoadGen ask ``predict`` for samples (indices below ``sample_count``) and report what it measured.

    In "single_stream" each query is one sample and the next comes when it is answered; in "offline" all
    samples come at once and are handed on ``batch_size`` at a time. ``predict`` is called in another thread.

    Returns ``scenario``, ``latency_ms`` {p50, p90, p99} of queries (None in offline, which is one single
    query), ``samples_per_s``, ``queries`` (samples answered), ``valid`` (LoadGen's verdict on duration and
    count), ``note`` (always "not an MLPerf result") and ``version``. What ``predict`` raises goes through.
    LoadGen's own log lies in ``folder`` meanwhile (None: where temporary files do).
    ``InputError`` for options that cannot work, ``MissingDependencyError`` without the package.
    """
    _check(sample_count, scenario, batch_size, min_duration_s, min_query_count)
    mlperf_loadgen = _library()
    if mlperf_loadgen is None:
        raise MissingDependencyError("LoadGen is not installed", hint="pip install 'pocketformer[compress]'")

    batch = 1 if scenario == "single_stream" else batch_size
    seconds_per_sample = _estimate(predict, sample_count, batch)
    test = mlperf_loadgen.TestSettings()
    test.mode = mlperf_loadgen.TestMode.PerformanceOnly
    test.min_duration_ms = int(min_duration_s * 1000)
    test.min_query_count = min_query_count
    if scenario == "single_stream":
        test.scenario = mlperf_loadgen.TestScenario.SingleStream
        # LoadGen prepares queries for twice the duration; half the estimate leaves room to be faster still.
        test.single_stream_expected_latency_ns = max(1, int(seconds_per_sample * 0.5e9))
    else:
        test.scenario = mlperf_loadgen.TestScenario.Offline
        test.offline_expected_qps = 1.3 / seconds_per_sample
    details = _start(mlperf_loadgen, test, _Subject(mlperf_loadgen, predict, batch), sample_count, folder)

    latency = None
    samples_per_s = details.get("result_samples_per_second")
    queries = details["samples"]
    if scenario == "single_stream":
        samples_per_s = details.get("result_qps_with_loadgen_overhead")
        latency = {
            name: details[f"result_{rank}_percentile_latency_ns"] / 1e6
            for name, rank in (("p50", "50.00"), ("p90", "90.00"), ("p99", "99.00"))
        }
    return {
        "scenario": scenario,
        "latency_ms": latency,
        "samples_per_s": samples_per_s,
        "queries": queries,
        "valid": details.get("result_validity") == "VALID",
        "note": NOTE,
        "version": _version(),
    }


def _check(count: int, scenario: str, batch_size: int, min_duration_s: float, min_query_count: int) -> None:
    if scenario not in ("single_stream", "offline"):
        raise InputError(f"unknown LoadGen scenario {scenario!r}", hint="Use 'single_stream' or 'offline'.")
    if count < 1 or batch_size < 1 or min_query_count < 1 or min_duration_s < 0:
        raise InputError(
            f"LoadGen cannot run with {count} samples, batch {batch_size}, {min_query_count} queries "
            f"and {min_duration_s} s",
            hint="Counts are at least 1 and the duration at least 0.",
        )


def _library() -> Any:
    """The package mlperf_loadgen, None where it is missing or broken."""
    try:
        import mlperf_loadgen
    except ImportError:
        return None
    return mlperf_loadgen


class _Subject:
    """The system under test as LoadGen sees it: answers every query, keeps the first failure for later."""

    def __init__(self, mlperf_loadgen: Any, predict: Callable[[list[int]], object], batch: int) -> None:
        self._loadgen = mlperf_loadgen
        self._predict = predict
        self._batch = batch
        self.failure: BaseException | None = None
        self.samples = 0

    def issue(self, queries: Sequence[Any]) -> None:
        for start in range(0, len(queries), self._batch):
            part = queries[start : start + self._batch]
            if self.failure is None:
                try:
                    self._predict([query.index for query in part])
                except BaseException as error:  # noqa: BLE001 - must not reach the C++ above; raised again later
                    self.failure = error
            self.samples += len(part)
            self._loadgen.QuerySamplesComplete(
                [self._loadgen.QuerySampleResponse(query.id, 0, 0) for query in part]
            )

    def flush(self) -> None:
        pass


def _start(
    mlperf_loadgen: Any, test: Any, subject: _Subject, sample_count: int, place: Optional[Path]
) -> dict[str, Any]:
    """Run one test and return the keys of LoadGen's detail log, with ``samples``."""
    with tempfile.TemporaryDirectory(prefix="pocketformer-loadgen-", dir=place) as folder:
        log = mlperf_loadgen.LogSettings()
        output = mlperf_loadgen.LogOutputSettings()
        output.outdir = folder
        output.copy_summary_to_stdout = False
        output.copy_detail_to_stdout = False
        log.log_output = output
        log.enable_trace = False
        # Without a path of its own, LoadGen obeys an audit.config that lies in the working directory.
        audit = str(Path(folder) / "audit.config")

        # Not Thread.join(): interrupted once, it takes the thread for ended (Python 3.11).
        ended = threading.Event()

        def run_test() -> None:
            try:
                system = mlperf_loadgen.ConstructSUT(subject.issue, subject.flush)
                library = mlperf_loadgen.ConstructQSL(sample_count, sample_count, _ignore, _ignore)
                mlperf_loadgen.StartTestWithLogSettings(system, library, test, log, audit)
                mlperf_loadgen.DestroyQSL(library)
                mlperf_loadgen.DestroySUT(system)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                subject.failure = error
            finally:
                ended.set()

        # In a thread of its own: Python delivers Ctrl-C to the main thread only, so never inside a callback.
        threading.Thread(target=run_test, name="loadgen", daemon=True).start()
        try:
            ended.wait()
        except BaseException as error:
            subject.failure = error  # the queries that are left are answered without asking the model
            ended.wait()
            raise
        if subject.failure is not None:
            raise subject.failure
        details = _read_details(Path(folder) / "mlperf_log_detail.txt")
    details["samples"] = subject.samples
    return details


def _ignore(_: list[int]) -> None:
    """Loading and unloading of samples, which lie in memory all the time."""


def _read_details(path: Path) -> dict[str, Any]:
    """The result keys of an MLLOG file, one JSON object behind a mark on each line."""
    details: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        mark, _, content = line.partition(" ")
        if mark == ":::MLLOG":
            entry = json.loads(content)
            details[entry["key"]] = entry["value"]
    if "result_validity" not in details:
        raise PocketformerError("LoadGen ended without a result", hint="Run again; report it if it stays so.")
    return details


def _estimate(predict: Callable[[list[int]], object], sample_count: int, batch: int) -> float:
    """Seconds a sample takes: the fastest of a few calls after a warm-up, as too many queries prepared are
    better than too few; not below what a callback from C++ to Python costs, or they would fill the memory.
    """
    indices = [position % sample_count for position in range(batch * 5)]
    predict(indices[:batch])
    fastest = float("inf")
    for start in range(0, len(indices), batch):
        begin = perf_counter()
        predict(indices[start : start + batch])
        fastest = min(fastest, perf_counter() - begin)
    return max(fastest / batch, 5e-6)


def _version() -> Optional[str]:
    for name in DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
