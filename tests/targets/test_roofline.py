"""Multiply-accumulates are counted on graphs whose count is known, and shares from profiles made up here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pocketformer.export.product_graph import write_product
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.manifest import SessionSettings
from pocketformer.targets.operator_profile import OperatorCost, parse_operators, profile_operators
from pocketformer.targets.roofline import Peaks, bound_by, copy_rate, measure_peaks, share_of_peak

SETTINGS = SessionSettings(intra_op_threads=1, spinning=False)
ROOF = Peaks(macs_per_s={"int8": 1e9}, memory_bytes_per_s=1e9)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_products_of_a_graph_that_ran_are_counted(
    tmp_path: Path, precision: Literal["fp32", "int8"]
) -> None:
    graph = write_product(tmp_path / "p.onnx", inner=24, columns=40, precision=precision)
    rows = np.ones((5, 24), dtype=np.float32 if precision == "fp32" else np.uint8)
    costs = profile_operators(graph, SETTINGS, {"a": rows}, runs=2)
    assert sum(cost.macs for cost in costs) == 5 * 24 * 40
    weights = OnnxRuntimeEngine(graph, SETTINGS).session.run(None, {"a": np.eye(24, dtype=rows.dtype)})[0]
    assert weights.shape == (24, 40)
    assert len(np.unique(weights)) > 20


def test_the_products_of_a_small_encoder_are_all_counted(small_bundle: Path) -> None:
    """Three layers of hidden size 32 and 64 neurons, on 2 texts of 10 tokens, and the head on their first position."""
    ids = np.ones((2, 10), dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": ids, "token_type_ids": np.zeros_like(ids)}
    costs = profile_operators(small_bundle / "model.onnx", SETTINGS, feeds, runs=2)
    layer = 2 * 10 * (4 * 32 * 32 + 2 * 32 * 64 + 2 * 10 * 32)
    assert sum(cost.macs for cost in costs) == 3 * layer + 2 * (32 * 32 + 32 * 3)


def node(
    operator: str, inputs: list[list[int]], output: list[int], microseconds: int, index: int = 0
) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{operator}_{index}_kernel_time",
        "dur": microseconds,
        "args": {
            "op_name": operator,
            "node_index": str(index),
            "input_type_shape": [{"float": shape} for shape in inputs],
            "output_type_shape": [{"float": output}],
        },
    }


def test_fused_attention_counts_its_projections_and_both_of_its_products() -> None:
    events = [
        node("QAttention", [[2, 10, 32], [32, 72]], [2, 10, 24], 5, 0),
        node("MultiHeadAttention", [[2, 1, 24], [2, 10, 24]], [2, 1, 24], 3, 1),
        node("Gelu", [[2, 10, 64]], [2, 10, 64], 1, 2),
    ]
    found = {cost.operator: cost.macs for cost in parse_operators(json.dumps(events))}
    assert found == {
        "QAttention": 2 * 10 * 32 * 72 + 2 * (2 * 10 * 10 * 24),
        "MultiHeadAttention": 2 * (2 * 1 * 10 * 24),
        "Gelu": 0,
    }


def test_a_node_takes_the_median_of_its_timed_runs() -> None:
    events = [node("Gelu", [[4]], [4], took) for took in (900, 10, 30, 20)]
    (cost,) = parse_operators(json.dumps(events), untimed=1)
    assert (cost.nodes, cost.seconds) == (1, pytest.approx(20e-6))


@pytest.mark.parametrize("text", ["", "{}}", '[{"cat": "Node", "name": "x_kernel_time"}]'])
def test_what_is_no_profile_is_an_error(text: str) -> None:
    with pytest.raises(VerificationError, match="no profile"):
        parse_operators(text)


def test_a_share_is_the_rate_of_the_whole_call_over_the_roof() -> None:
    costs = (OperatorCost("QAttention", 1, 2_000_000, 0.004), OperatorCost("Gelu", 2, 0, 0.006))
    share = share_of_peak(costs, 8.0, ROOF)
    assert share.macs_per_s == pytest.approx(0.25e9)
    assert share.share == pytest.approx(0.25)
    assert share.time == pytest.approx({"attention": 0.4, "Gelu": 0.6})
    assert share.product_share == pytest.approx(2e6 / (0.4 * 8e-3) / 1e9)
    assert bound_by(share).startswith("operators between the products")
    assert "Gelu 60%" in bound_by(share)


@pytest.mark.parametrize(
    ("macs", "worst"), [(7_000_000, "arithmetic"), (1_000_000, "products below full rate")]
)
def test_what_bounds_a_call_is_named(macs: int, worst: str) -> None:
    costs = (OperatorCost("MatMul", 1, macs, 0.008), OperatorCost("Gelu", 1, 0, 0.002))
    assert bound_by(share_of_peak(costs, 10.0, ROOF)).startswith(worst)


def test_the_roof_is_measured_on_products_of_its_size(tmp_path: Path) -> None:
    products = {
        name: write_product(tmp_path / f"{name}.onnx", inner=64, columns=64, precision=name)
        for name in ("int8", "fp32")
    }
    roof = measure_peaks(products, SETTINGS, size=64, rounds=2, copied_bytes=1000)
    assert set(roof.macs_per_s) == {"int8", "fp32"}
    assert all(rate > 0 for rate in roof.macs_per_s.values())
    assert roof.size == 64
    with pytest.raises(InputError, match="int8"):
        measure_peaks({"fp32": products["fp32"]}, SETTINGS, size=64)


@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_copied_by_any_number_of_threads(threads: int) -> None:
    assert copy_rate(threads, size=1000, repeats=1) > 0
