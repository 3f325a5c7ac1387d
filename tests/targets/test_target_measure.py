"""Workloads have the shapes they promise, and every candidate is timed on the same inputs."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.runtime.errors import InputError
from pocketformer.targets.measure import measure
from pocketformer.targets.workloads import REAL, WORKLOADS, build_feeds, fill

ROWS = [[101, 7, 8, 102], [101, 9, 102], [101, 10, 11, 12, 102]]


def test_workload_names_say_their_shapes() -> None:
    assert [workload.name for workload in WORKLOADS] == ["real", "1x32", "1x128", "8x128"]
    for workload in WORKLOADS[1:]:
        assert workload.name == f"{workload.batch}x{workload.sequence}"
        feeds = build_feeds(workload, ROWS)
        assert len(feeds) == 1
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            assert feeds[0][name].shape == (workload.batch, workload.sequence)
            assert feeds[0][name].dtype == np.int64


def test_real_inputs_stand_alone_and_unpadded() -> None:
    feeds = build_feeds(REAL, [*ROWS, []])
    assert [feed["input_ids"].tolist() for feed in feeds] == [[row] for row in ROWS]
    assert all(feed["attention_mask"].all() for feed in feeds)


def test_filled_rows_begin_with_a_text_and_go_on_with_the_next() -> None:
    feeds = fill(ROWS, batch=3, sequence=6)
    assert feeds["input_ids"].tolist() == [
        [101, 7, 8, 102, 101, 9],
        [101, 9, 102, 101, 10, 11],
        [101, 10, 11, 12, 102, 101],
    ]


@given(
    rows=st.lists(st.lists(st.integers(0, 30_000), min_size=1, max_size=9), min_size=1, max_size=9),
    batch=st.integers(1, 12),
    sequence=st.integers(1, 40),
)
def test_fixed_shapes_hold_real_tokens_only(rows: list[list[int]], batch: int, sequence: int) -> None:
    feeds = fill(rows, batch, sequence)
    assert feeds["input_ids"].shape == (batch, sequence)
    assert set(feeds["input_ids"].ravel().tolist()) <= {token for row in rows for token in row}
    assert set(feeds["input_ids"][:, 0].tolist()) <= {row[0] for row in rows}
    assert feeds["attention_mask"].all()
    assert not feeds["token_type_ids"].any()


@pytest.mark.parametrize("rows", [[], [[]]])
def test_nothing_to_fill_with_is_an_error(rows: list[list[int]]) -> None:
    with pytest.raises(InputError, match="cannot fill"):
        fill(rows, 1, 8)
    with pytest.raises(InputError, match="no real inputs"):
        build_feeds(REAL, rows)


def test_candidates_take_turns_and_the_slower_is_seen_to_be_slower() -> None:
    order: list[str] = []

    def fast(value: int) -> None:
        order.append("fast")

    def slow(value: int) -> None:
        order.append("slow")
        time.sleep(0.002)

    heard: list[str] = []
    timings = measure(
        {"fast": fast, "slow": slow}, {"a": [1], "b": [1, 2]}, rounds=8, on_workload=heard.append
    )
    assert heard == ["a", "b"]
    assert {name: list(by) for name, by in timings.items()} == {"fast": ["a", "b"], "slow": ["a", "b"]}
    for workload in ("a", "b"):
        assert timings["slow"][workload].latency.p50 > timings["fast"][workload].latency.p50
        assert len(timings["slow"][workload].seconds) == timings["slow"][workload].latency.samples == 8
        assert timings["slow"][workload].latency.p50 >= 2.0
    changes = sum(first != second for first, second in pairwise(order))
    assert changes >= 2 * 8


@pytest.mark.parametrize("warmup", [0, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_every_input_is_among_the_timed_calls(count: int, warmup: int) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}
    candidates = {"a": seen["a"].append, "b": seen["b"].append}
    measure(candidates, {"real": range(count)}, rounds=count, warmup=warmup, warm_for_s=0)
    for calls in seen.values():
        assert calls[warmup::2] == calls[warmup + 1 :: 2] == list(range(count))


def test_the_time_limit_holds_for_each_workload() -> None:
    timings = measure(
        {"slow": lambda _: time.sleep(0.01)}, {"a": [1], "b": [1]}, rounds=1000, warmup=0, time_limit_s=0.1
    )
    for workload in ("a", "b"):
        assert 1 <= timings["slow"][workload].latency.samples <= 10


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(InputError, match="no candidates"):
        measure({}, {"a": [1]})
    with pytest.raises(InputError, match="'a' has no inputs"):
        measure({"x": lambda _: None}, {"a": []})
