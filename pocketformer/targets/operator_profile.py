"""What the operators of a graph compute and how long they take, as onnxruntime's profile of a few runs tells it.

Multiply-accumulates are counted from the shapes that onnxruntime really ran: after its own fusions, and of the first
position alone where a graph computes no more. Profiling costs time of its own, so its times are shares, no latencies.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.runtime.errors import VerificationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pocketformer.runtime.manifest import SessionSettings

PRODUCTS = frozenset(
    (
        "MatMul",
        "FusedMatMul",
        "Gemm",
        "FusedGemm",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "QLinearMatMul",
        "QGemm",
        "MatMulNBits",
    )
)
"""Operators that are one product; no exporter transposes their first input, so its last axis is what is summed over."""
ATTENTIONS = frozenset(("Attention", "QAttention", "MultiHeadAttention"))
"""Operators with the products of attention inside; the first two make queries, keys and values as well."""
_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class OperatorCost:
    """All nodes of one operator in one run: how many, ``macs`` (multiply-accumulates of products) and seconds."""

    operator: str
    nodes: int
    macs: int
    seconds: float


def profile_operators(
    graph: Path, settings: SessionSettings, feeds: Mapping[str, NDArray[Any]], *, runs: int = 7
) -> tuple[OperatorCost, ...]:
    """The costs of one run on ``feeds``, the longest first; the medians of ``runs`` after two untimed ones.

    The session is one of its own, so that no measured one is slowed. Raises as ``OnnxRuntimeEngine`` does, and
    ``VerificationError`` when the profile cannot be read.
    """
    from pocketformer.runtime.engine import OnnxRuntimeEngine

    with tempfile.TemporaryDirectory(prefix="pocketformer-profile-") as folder:
        engine = OnnxRuntimeEngine(graph, settings, profile_prefix=str(Path(folder) / "run"))
        try:
            for _ in range(runs + 2):
                engine.run(feeds)
        finally:
            profile = Path(engine.session.end_profiling())
        return parse_operators(profile.read_text(encoding="utf-8", errors="replace"), untimed=2)


def parse_operators(text: str, *, untimed: int = 0) -> tuple[OperatorCost, ...]:
    """The costs that a profile of several equal runs tells; the first ``untimed`` runs count for nothing.

    Raises ``VerificationError`` when this is no profile, or one of fewer runs.
    """
    from statistics import median

    try:
        nodes: dict[tuple[str, Any], list[Any]] = {}
        for event in json.loads(text):
            if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_KERNEL):
                key = (event["name"], event["args"].get("node_index"))
                nodes.setdefault(key, []).append(event)
        by_operator: dict[str, list[tuple[int, float]]] = {}
        for events in nodes.values():
            arguments = events[0]["args"]
            seconds = median(float(event["dur"]) / 1e6 for event in events[untimed:])
            by_operator.setdefault(str(arguments["op_name"]), []).append((_macs(arguments), seconds))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise VerificationError(
            f"this is no profile of onnxruntime that tells shapes: {type(error).__name__}: {error}",
            hint="Try another release of onnxruntime.",
        ) from error
    costs = [
        OperatorCost(operator, len(found), sum(m for m, _ in found), sum(s for _, s in found))
        for operator, found in by_operator.items()
    ]
    return tuple(sorted(costs, key=lambda cost: -cost.seconds))


def _macs(arguments: Mapping[str, Any]) -> int:
    """Multiply-accumulates of one node from the shapes of its inputs and outputs."""
    operator = arguments["op_name"]
    if operator not in PRODUCTS | ATTENTIONS:
        return 0
    inputs = [next(iter(entry.values())) for entry in arguments["input_type_shape"]]
    output = next(iter(arguments["output_type_shape"][0].values()))
    if operator in PRODUCTS:
        return int(prod(output) * inputs[0][-1])
    batch, sequence, width = output
    if operator == "MultiHeadAttention":
        return int(2 * batch * sequence * inputs[1][1] * width)
    return int(batch * sequence * (inputs[0][-1] * 3 * width + 2 * sequence * width))
