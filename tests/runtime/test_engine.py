from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pocketformer.runtime.engine import OnnxRuntimeEngine, available_cores, session_options
from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.manifest import GRAPH_OPTIMIZATIONS, SessionSettings

ONE_THREAD = SessionSettings(intra_op_threads=1)


@pytest.fixture(scope="module")
def engine(tiny_graph: Path) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(tiny_graph, ONE_THREAD)


def feeds(batch: int, sequence: int) -> dict[str, np.ndarray]:
    ids = np.full((batch, sequence), 5, dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def test_names_and_providers(engine: OnnxRuntimeEngine) -> None:
    assert engine.input_names == ("input_ids", "attention_mask", "token_type_ids")
    assert engine.output_name == "logits"
    assert engine.providers == ("CPUExecutionProvider",)


def test_any_shape_and_feeds_that_the_graph_lacks(engine: OnnxRuntimeEngine) -> None:
    for batch, sequence in ((1, 1), (3, 9), (8, 64)):
        assert engine.run({**feeds(batch, sequence), "position_ids": np.zeros(1)}).shape == (batch, 3)


def test_missing_feed_is_named(engine: OnnxRuntimeEngine) -> None:
    incomplete = feeds(1, 4)
    del incomplete["attention_mask"]
    with pytest.raises(InputError, match="attention_mask"):
        engine.run(incomplete)


def test_a_graph_that_fails_is_an_error_with_shapes(engine: OnnxRuntimeEngine) -> None:
    with pytest.raises(VerificationError, match=r"input_ids \[1, 65\] int64"):
        engine.run(feeds(1, 65))  # the tiny model has 64 positions
    wrong = feeds(1, 4)
    wrong["input_ids"] = wrong["input_ids"].astype(np.int32)
    with pytest.raises(VerificationError, match="int32"):
        engine.run(wrong)


def test_absent_graph(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"absent\.onnx"):
        OnnxRuntimeEngine(tmp_path / "absent.onnx")


def test_settings_reach_onnxruntime() -> None:
    options = session_options(
        SessionSettings(intra_op_threads=3, spinning=False, graph_optimization="basic", memory_arena=False)
    )
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 1
    assert options.enable_cpu_mem_arena is False
    assert options.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    spinning = session_options(SessionSettings())
    assert spinning.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    # Not after a call, though: two sessions in one process would take each other's cores.
    assert spinning.get_session_config_entry("session.force_spinning_stop") == "1"
    assert spinning.intra_op_num_threads == available_cores()


def test_every_optimization_of_the_manifest_is_known() -> None:
    for name in GRAPH_OPTIMIZATIONS:
        session_options(SessionSettings(graph_optimization=name))
    with pytest.raises(InputError, match="fastest"):
        session_options(SessionSettings(graph_optimization="fastest"))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_cores_withheld_are_not_counted() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_cores() == len(before)


def test_a_damaged_graph_prints_nothing(
    tiny_graph: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "model.onnx"
    # Names that are not UTF-8 make onnxruntime print a fallback notice to stdout, unless told not to.
    broken.write_bytes(tiny_graph.read_bytes().replace(b"Softmax", b"\xffoftmax"))
    with pytest.raises(VerificationError, match="cannot load"):
        OnnxRuntimeEngine(broken, ONE_THREAD)
    assert capfd.readouterr().out == ""
