"""SmoothQuant on an ONNX graph: activations lose their outliers to the weights, and the logits stay the same.

Where scales go (see ``smoothing_core``):

- What a LayerNormalization gives is scaled by its own weight and bias, and the products that read it take the scales:
  query, key and value, or their fused attention, and the first product of the feed-forward network. Where the residual
  connection reads it too, as in models that normalize afterwards, one Mul by the scales gives it back there.
- What attention gives is a mean of values, channel by channel, so the product of the values is scaled instead.

The second product of the feed-forward network reads an activation function, through which no scale goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.quantize.config import SmoothingConfig
from pocketformer.compress.quantize.graph_state import load_unquantized, save
from pocketformer.compress.quantize.smoothing_core import best_scales
from pocketformer.runtime.errors import InputError, ModelError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feeds = Sequence[Mapping[str, NDArray[np.int64]]]

_MOVES = ("Reshape", "Transpose")  # these keep values, and channels together
_READS_SHAPE = ("Shape",)
_TOLERANCE = 1e-3  # of the largest logit


def smooth(graph: Path, output: Path, config: SmoothingConfig, calibration: Feeds) -> StepResult[Path]:
    """Write the fp32 ``graph``, plain or fused, with smoothed products; its logits stay the same.

    ``calibration`` are feeds int64 [batch, sequence] by input name. Metrics: ``smoothed_tensors`` of ``read_tensors``
    that could be smoothed, ``products_error`` after and ``products_error_before``: the mean squared errors of the
    quantized products, as shares of the products themselves. Raises ``InputError`` without feeds, ``ModelError`` when
    the logits do not stay the same.
    """
    if not calibration:
        raise InputError("smoothing needs calibration texts", hint="Pass training texts.")
    model = load_unquantized(graph)
    feeds = list(calibration[: config.calibration_batches])
    surgery = _Surgery(model.graph)
    places = surgery.places()
    samples = _samples(model, [place.tensor for place in places], feeds, config)
    errors: list[tuple[float, float]] = []
    smoothed = 0
    for place in places:
        rows, largest = samples[place.tensor]
        weights = np.concatenate([surgery.weight(node) for node in place.products], axis=1)
        scales, before, after = best_scales(
            rows, weights, largest, config.strengths, 64 if config.reduce_range else 127
        )
        errors.append((before, after))
        if scales is not None:
            surgery.apply(place, scales)
            smoothed += 1
    surgery.finish()
    save(model, output)
    _require_same(graph, output, feeds[0])
    means = np.mean(errors, axis=0) if errors else (0.0, 0.0)
    metrics = {
        "read_tensors": float(len(places)),
        "smoothed_tensors": float(smoothed),
        "products_error_before": float(means[0]),
        "products_error": float(means[1]),
    }
    return StepResult(output=output, metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A tensor to scale, the products that read it, and what scales it: a normalization or the values' product."""

    tensor: str
    products: tuple[Any, ...]
    norm: Any = None
    values: Any = None
    bias: Any = None


class _Surgery:
    """Finds the places of a graph and rewrites them."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._constants = {item.name: item for item in graph.initializer}
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in set(node.input):
                self._readers.setdefault(name, []).append(node)

    def places(self) -> list[_Place]:
        """Values first: their columns change what the normalization before them is weighed against."""
        found = [place for node in self._graph.node if (place := self._values_place(node)) is not None]
        for node in self._graph.node:
            if node.op_type == "LayerNormalization" and {*node.input[1:3]} <= self._constants.keys():
                products = [
                    r for r in self._readers.get(node.output[0], []) if self._reads(r, node.output[0])
                ]
                if products:
                    found.append(_Place(tensor=node.output[0], products=tuple(products), norm=node))
        return found

    def weight(self, node: Any) -> NDArray[np.float32]:
        """The constant factor of a product, [inputs, outputs]."""
        from onnx import numpy_helper

        array: NDArray[np.float32] = numpy_helper.to_array(self._constants[node.input[1]])
        return array.T if _transposed(node) else array

    def apply(self, place: _Place, scales: NDArray[np.float32]) -> None:
        """Divide the tensor by ``scales`` and multiply the rows of the weights that read it."""
        for node in place.products:
            self._scale(node, 1, scales if _transposed(node) else scales[:, None])
        if place.norm is not None:
            self._scale(place.norm, 1, 1 / scales)
            self._scale(place.norm, 2, 1 / scales)
            self._give_back(place, scales)
        elif place.bias is None:  # fused attention: the values are the last third of its columns
            columns = self._constants[place.values.input[1]].dims[1]
            factors = np.ones(columns, np.float32)
            factors[-len(scales) :] = 1 / scales
            self._scale(place.values, 1, factors)
            self._scale(place.values, 2, factors)
        else:
            self._scale(place.values, 1, 1 / scales)
            self._scale(place.bias, 0 if place.bias.input[0] in self._constants else 1, 1 / scales)

    def finish(self) -> None:
        """Remove the constants that nothing reads any more."""
        read = {name for node in self._graph.node for name in node.input}
        kept = [item for item in self._graph.initializer if item.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _values_place(self, node: Any) -> _Place | None:
        """The product that reads what attention gives, where nothing else does, with the product of the values."""
        if not self._reads(node, node.input[0] if node.input else ""):
            return None
        source = self._unmoved(node.input[0])
        if source is None:
            return None
        tensor = node.input[0]
        if source.op_type == "Attention" and source.domain == "com.microsoft":
            weight = self._constants.get(source.input[1])
            thirds = weight is not None and weight.dims[1] == 3 * self.weight(node).shape[0]
            if thirds and self._is_vector(source.input[2]):
                return _Place(tensor=tensor, products=(node,), values=source)
            return None
        at = {"MatMul": 1, "MultiHeadAttention": 2}.get(source.op_type)
        if at is None or source.input[1] in self._constants:
            return None
        bias = self._unmoved(source.input[at])
        if bias is None or bias.op_type != "Add" or not any(map(self._is_vector, bias.input)):
            return None
        product = self._unmoved(next(name for name in bias.input if not self._is_vector(name)))
        if product is None or product.op_type != "MatMul" or not self._reads(product, product.input[0]):
            return None
        return _Place(tensor=tensor, products=(node,), values=product, bias=bias)

    def _unmoved(self, name: str) -> Any:
        """The node that made a tensor, behind what only moves it; None where another node reads it on the way."""
        while True:
            node = self._made_by.get(name)
            readers = [r for r in self._readers.get(name, []) if r.op_type not in _READS_SHAPE]
            if node is None or len(readers) != 1 or node.op_type not in _MOVES:
                return node if len(readers) == 1 else None
            name = node.input[0]

    def _reads(self, node: Any, tensor: str) -> bool:
        """Whether ``node`` is a product of ``tensor`` with a constant matrix."""
        if node.op_type not in ("MatMul", "Gemm", "Attention") or node.input[0] != tensor:
            return False
        weight = self._constants.get(node.input[1])
        plain = all(a.i == 0 for a in node.attribute if a.name == "transA")
        return weight is not None and len(weight.dims) == 2 and plain

    def _is_vector(self, name: str) -> bool:
        return name in self._constants and len(self._constants[name].dims) == 1

    def _scale(self, node: Any, at: int, factors: NDArray[np.floating[Any]]) -> None:
        """Let ``node`` read its constant input multiplied by ``factors``; others go on reading it as it is."""
        from onnx import numpy_helper

        old = self._constants[node.input[at]]
        name = f"{old.name}_smoothed_{len(self._constants)}"
        array = (numpy_helper.to_array(old) * factors).astype(np.float32)
        made = numpy_helper.from_array(np.ascontiguousarray(array), name)
        self._graph.initializer.append(made)
        self._constants[name] = made
        node.input[at] = name

    def _give_back(self, place: _Place, scales: NDArray[np.float32]) -> None:
        """Let what reads the tensor beside the products read it as it was."""
        from onnx import helper, numpy_helper

        products = {id(node) for node in place.products}
        others = [
            node
            for node in self._readers[place.tensor]
            if id(node) not in products and node.op_type not in _READS_SHAPE
        ]
        if not others:
            return
        factors, whole = f"{place.tensor}_scales", f"{place.tensor}_unsmoothed"
        self._graph.initializer.append(numpy_helper.from_array(scales, factors))
        for node in others:
            for index, name in enumerate(node.input):
                if name == place.tensor:
                    node.input[index] = whole
        position = next(i for i, node in enumerate(self._graph.node) if node.output[0] == place.tensor)
        made = helper.make_node("Mul", [place.tensor, factors], [whole], name=whole)
        self._graph.node.insert(position + 1, made)


def _transposed(node: Any) -> bool:
    return any(attribute.i != 0 for attribute in node.attribute if attribute.name == "transB")


def _samples(
    model: Any, tensors: Sequence[str], feeds: Feeds, config: SmoothingConfig
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """By tensor: some of its rows [rows, channels], spread over the feeds, and all rows' largest magnitudes."""
    import onnx
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {item.name for item in watched.graph.output}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in dict.fromkeys(tensors)
        if name not in present
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    taken: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    largest: dict[str, NDArray[np.float32]] = {}
    each = max(1, config.rows // len(feeds))
    inputs = {item.name for item in session.get_inputs()}
    for feed in feeds:
        values = session.run(list(tensors), {name: value for name, value in feed.items() if name in inputs})
        for name, value in zip(tensors, values, strict=True):
            rows = np.asarray(value, np.float32).reshape(-1, value.shape[-1])
            taken[name].append(rows[np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(int)])
            peak = np.abs(rows).max(axis=0)
            largest[name] = np.maximum(largest[name], peak) if name in largest else peak
    return {name: (np.concatenate(taken[name]), largest[name]) for name in tensors}


def _require_same(before: Path, after: Path, feed: Mapping[str, Any]) -> None:
    from pocketformer.runtime.engine import OnnxRuntimeEngine

    expected, actual = OnnxRuntimeEngine(before).run(feed), OnnxRuntimeEngine(after).run(feed)
    difference = float(np.abs(actual - expected).max())
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        after.unlink(missing_ok=True)
        raise ModelError(
            f"smoothing changed the logits of {before} by {difference:.2g}",
            hint="Leave the smoothed candidates out.",
        )
