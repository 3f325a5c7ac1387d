"""Placement, read from profiles that onnxruntime really wrote here, and from made-up ones of several providers."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.runtime.errors import VerificationError
from pocketformer.runtime.manifest import CPU_PROVIDER, SessionSettings
from pocketformer.runtime.placement import Placement, measure_placement, parse_profile

ONE_THREAD = SessionSettings(intra_op_threads=1)
CUDA = "CUDAExecutionProvider"


def feeds(sequence: int = 5) -> dict[str, np.ndarray]:
    ids = np.full((1, sequence), 5, dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def event(operator: str, provider: str, name: str, index: int = 0) -> dict[str, Any]:
    arguments = {"op_name": operator, "provider": provider, "node_index": str(index)}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": 7, "args": arguments}


def test_every_node_of_a_real_graph_is_placed(tiny_graph: Path) -> None:
    placement = measure_placement(tiny_graph, replace(ONE_THREAD, graph_optimization="none"), feeds())
    # Constants become initializers; everything else runs as it stands in the file.
    expected = Counter(
        node.op_type for node in onnx.load(tiny_graph).graph.node if node.op_type != "Constant"
    )
    assert placement.operators == {CPU_PROVIDER: dict(sorted(expected.items()))}
    assert placement.nodes == {CPU_PROVIDER: sum(expected.values())}
    assert placement.copies == 0
    optimized = measure_placement(tiny_graph, ONE_THREAD, feeds())
    assert 0 < optimized.nodes[CPU_PROVIDER] < placement.nodes[CPU_PROVIDER]


def test_no_profile_is_left_behind(tiny_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    measure_placement(tiny_graph, ONE_THREAD, feeds())
    with pytest.raises(VerificationError, match=r"input_ids \[1, 65\]"):
        measure_placement(tiny_graph, ONE_THREAD, feeds(65))  # the tiny model has 64 positions
    assert list(tmp_path.iterdir()) == []


def test_what_ran_elsewhere_is_named() -> None:
    events = [
        {"cat": "Session", "name": "session_initialization", "args": {}},
        {"cat": "Node", "name": "first_fence_before", "args": {"op_name": "MatMul"}},
        event("MatMul", CUDA, "first", 1),
        event("MatMul", CUDA, "second", 2),
        event("MatMul", CUDA, "second", 2),  # a second run of the same node
        event("MemcpyToHost", CUDA, "Memcpy_token_1", 8),
        event("Shape", CPU_PROVIDER, "", 3),
        event("Shape", CPU_PROVIDER, "", 4),  # nodes without names
        event("Gather", CPU_PROVIDER, "gather", 5),
    ]
    placement = parse_profile(json.dumps(events))
    assert placement == Placement({CPU_PROVIDER: {"Gather": 1, "Shape": 2}, CUDA: {"MatMul": 2}}, copies=1)
    assert list(placement.nodes.items()) == [(CPU_PROVIDER, 3), (CUDA, 2)]
    assert list(placement.fallback([CUDA]).items()) == [("Shape", 2), ("Gather", 1)]
    assert placement.fallback([CUDA, CPU_PROVIDER]) == {}
    assert json.loads(json.dumps(placement.to_dict())) == placement.to_dict()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "[3]", '[{"cat": "Node", "name": "x_kernel_time"}]', "null"]
)
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(VerificationError):
        parse_profile(text)


@given(
    st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_json_is_read_or_refused(document: Any) -> None:
    with pytest.raises(VerificationError):
        parse_profile(json.dumps(document))
