"""How much each product of a graph loses to int8: it alone is quantized, and the logits are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.prune.drop_core import divergence
from pocketformer.compress.quantize.config import DynamicConfig, StaticConfig
from pocketformer.compress.quantize.graph_state import load_unquantized
from pocketformer.compress.quantize.sensitivity_core import by_worth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feeds = Sequence[Mapping[str, NDArray[np.int64]]]

# Ranges of one product's input are steady after a few batches.
_CALIBRATION_BATCHES = 4


@dataclass(frozen=True, kw_only=True)
class Product:
    """A product with constant weights: its node's name, how many weights it has, and what int8 costs.

    ``error``: mean KL divergence of the logits when only this product is quantized, in nats.
    """

    name: str
    weights: int
    error: float = 0.0


def products_of(graph: Path, config: DynamicConfig | StaticConfig) -> list[Product]:
    """The products of the fp32 ``graph`` that ``config`` quantizes and that can be named, in the graph's order."""
    operators = ("MatMul", "Gemm", *(("Attention",) if isinstance(config, DynamicConfig) else ()))
    model = load_unquantized(graph)
    sizes = {item.name: int(np.prod(item.dims)) for item in model.graph.initializer}
    return [
        Product(name=node.name, weights=sizes[node.input[1]])
        for node in model.graph.node
        if node.op_type in operators and node.name and sizes.get(node.input[1], 0) > 0
    ]


def most_sensitive_first(
    graph: Path,
    config: DynamicConfig | StaticConfig,
    *,
    sample: Feeds,
    calibration: Feeds = (),
    work: Path,
) -> list[Product]:
    """The products of ``graph`` with their errors on the feeds ``sample``, first the ones that are worth float32 most.

    Worth is error per weight, because weights are what float32 costs in bytes and in time. Each product is quantized
    alone, into a scratch file in ``work``: a second or less each. Raises as the quantizers do.
    """
    from pocketformer.runtime.engine import OnnxRuntimeEngine

    quantize = _quantizer(config)
    products = products_of(graph, config)
    names = [product.name for product in products]
    engine = OnnxRuntimeEngine(graph)
    reference = np.concatenate([engine.run(feed) for feed in sample])
    alone = work / "alone.onnx"
    measured = []
    try:
        for product in products:
            others = tuple(name for name in names if name != product.name)
            quantize(graph, alone, replace(config, float_products=others), calibration[:_CALIBRATION_BATCHES])
            engine = OnnxRuntimeEngine(alone)
            logits = np.concatenate([engine.run(feed) for feed in sample])
            measured.append(replace(product, error=divergence(reference, logits)))
    finally:
        alone.unlink(missing_ok=True)
    order = by_worth([product.error for product in measured], [float(p.weights) for p in measured])
    return [measured[index] for index in order]


def _quantizer(config: DynamicConfig | StaticConfig) -> Any:
    if isinstance(config, DynamicConfig):
        from pocketformer.compress.quantize.onnxruntime_dynamic import quantize_dynamic

        return quantize_dynamic
    from pocketformer.compress.quantize.onnxruntime_static import quantize_static

    return quantize_static
