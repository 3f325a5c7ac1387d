"""Does the exported graph compute what the torch model computes?

Logits are compared at several shapes, with padding. When they differ, the first layer at fault is found
without knowing how any exporter names things: the graph is run once more with every intermediate tensor as
an output, and each hidden state of the torch model, in order, is looked for among tensors of its shape. The
first hidden state that no tensor of the graph equals belongs to the first differing layer. This works for
traced, dynamo and fused graphs of any family that returns its hidden states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.export.graph_file import load_graph, random_feeds
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import ParityError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

DEFAULT_SHAPES = ((1, 1), (1, 8), (2, 17), (4, 32), (8, 64), (3, 128))
DEFAULT_TOLERANCE = 1e-4
_REWRITE_SHAPES = ((1, 1), (1, 7), (3, 12))


def check_parity(
    model: torch.nn.Module,
    onnx_path: Path,
    *,
    vocab_size: int,
    shapes: Sequence[tuple[int, int]] = DEFAULT_SHAPES,
    tolerance: float = DEFAULT_TOLERANCE,
    seed: int = 0,
) -> StepResult[Path]:
    """Compare the logits of ``onnx_path`` with those of ``model`` on random padded ids of each shape.

    ``shapes`` are (batch, sequence); sequences beyond the model's positions are cut to them. Metrics:
    ``max_abs_difference`` of the logits and ``shapes`` compared. Raises ``ParityError``, which names the
    shape and the first differing layer, when a difference is above ``tolerance`` or not a number.
    """
    import numpy as np

    graph = load_graph(onnx_path)
    engine = OnnxRuntimeEngine(onnx_path)
    limit = positions(model)
    fitting = list(dict.fromkeys((batch, min(length, limit)) for batch, length in shapes))
    types = int(getattr(model.config, "type_vocab_size", 1) or 1)
    largest = 0.0
    for index, (batch, length) in enumerate(fitting):
        feeds = random_feeds(
            graph, batch, length, vocab_size=vocab_size, type_vocab_size=types, seed=seed + index
        )
        expected, hidden = _torch_outputs(model, feeds)
        actual = engine.run(feeds)
        same_shape = actual.shape == expected.shape
        difference = float(np.abs(actual - expected).max()) if same_shape else math.nan
        if not difference <= tolerance:  # not `>`: a NaN must fail
            where = _first_differing_layer(graph, feeds, hidden, tolerance)
            seen = f"logits differ by {difference:.3g}" if same_shape else f"logits have shape {actual.shape}"
            raise ParityError(
                f"{onnx_path} is not the torch model: at batch {batch} x sequence {length} its {seen} "
                f"(allowed {tolerance:.3g}); first differing layer: {where}",
                hint="Export with the other exporter, or another opset, and report this model's family.",
            )
        largest = max(largest, difference)
    return StepResult(
        output=onnx_path, metrics={"max_abs_difference": largest, "shapes": float(len(fitting))}
    )


def check_rewrite(before: Path, after: Path, *, tolerance: float, what: str, hint: str) -> float:
    """The largest absolute difference of the logits of ``after``, a rewrite of ``before`` that must not change them.

    A rewrite that cannot be run is removed; so is one whose difference is above ``tolerance`` or no number, with a
    ``ParityError`` that says ``what`` was done, and ``hint``.
    """
    try:
        difference = _largest_difference(before, after)
    except Exception:
        after.unlink(missing_ok=True)
        raise
    if not difference <= tolerance:  # not `>`: a NaN must fail
        after.unlink(missing_ok=True)
        raise ParityError(
            f"{what} changed the logits of {before} by {difference:.3g} (allowed {tolerance:.3g})", hint=hint
        )
    return difference


def _largest_difference(before: Path, after: Path) -> float:
    """Of two graphs with the same inputs, on random padded ids of a few shapes; may be NaN."""
    import numpy as np

    graph = load_graph(before)
    engines = OnnxRuntimeEngine(before), OnnxRuntimeEngine(after)
    largest = 0.0
    for seed, (batch, length) in enumerate(_REWRITE_SHAPES):
        feeds = random_feeds(graph, batch, length, seed=seed)
        first, second = (engine.run(feeds) for engine in engines)
        difference = float(np.abs(first - second).max()) if first.shape == second.shape else math.nan
        if not math.isfinite(difference):
            return difference
        largest = max(largest, difference)
    return largest


def positions(model: torch.nn.Module) -> int:
    """The longest sequence that the model has positions for.

    RoBERTa's count starts after the padding id, so that many rows of its table are no positions.
    """
    limit = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            limit = int(module.weight.shape[0]) - int(module.padding_idx) - 1
    return max(1, limit)


def _torch_outputs(
    model: torch.nn.Module, feeds: Mapping[str, NDArray[np.int64]]
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Logits and hidden states (embeddings first) of the torch model, without dropout."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(
                **{name: torch.from_numpy(value) for name, value in feeds.items()}, output_hidden_states=True
            )
    finally:
        model.train(was_training)
    hidden = [state.numpy() for state in outputs.hidden_states or ()]
    return outputs.logits.numpy(), hidden


def _first_differing_layer(
    graph: Any,
    feeds: Mapping[str, NDArray[np.int64]],
    hidden: Sequence[NDArray[np.float32]],
    tolerance: float,
) -> str:
    import numpy as np

    if not hidden:
        return "unknown (the model returns no hidden states)"
    tensors = _all_tensors(graph, feeds)
    mask = feeds["attention_mask"].astype(bool)
    for index, expected in enumerate(hidden):
        alike = [t for t in tensors if t.shape == expected.shape]
        # What stands at padded positions reaches no logit, so it may differ.
        best = min((float(np.abs(t - expected)[mask].max()) for t in alike), default=math.inf)
        if not best <= tolerance:
            name = "the embeddings" if index == 0 else f"encoder layer {index - 1} (counted from 0)"
            return f"{name}, off by {best:.3g}" if math.isfinite(best) else f"{name}, absent from the graph"
    return "the classification head (all encoder layers agree)"


def _all_tensors(graph: Any, feeds: Mapping[str, NDArray[np.int64]]) -> list[NDArray[np.float32]]:
    """Every float tensor of rank 3 that the graph computes on the way; as written, nothing fused."""
    import onnx
    import onnxruntime as ort

    exposed = onnx.ModelProto()
    exposed.CopyFrom(graph)
    present = {item.name for item in exposed.graph.output}
    for node in graph.graph.node:
        for name in node.output:
            if name and name not in present:
                present.add(name)
                exposed.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = [item.name for item in session.get_outputs() if item.type == "tensor(float)"]
    return [value for value in session.run(wanted, dict(feeds)) if value.ndim == 3]
