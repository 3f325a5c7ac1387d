"""4-bit weights of products as onnxruntime's MatMulNBits: blocks of a column share a scale, products in int8.

Weights stay packed in memory as well, which is what a decoder wants that reads them all for each token. For an
encoder's products of many rows int8 is faster (``packed_weights`` has its file in 4 bits). The codes come from
rounding to the nearest ("rtn"), HQQ, GPTQ or AWQ: ``embeddings_core``, ``hqq_core``, ``gptq_core``, ``awq_core``.
onnxruntime's own quantizer has RTN and HQQ, with zero points in float that its int8 products do not take; its GPTQ
wants a neural-compressor that is gone.

A Gemm becomes MatMulNBits and an Add. Weights inside a fused Attention stay: start from the plain graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketformer.compress.quantize.awq_core import awq_scales
from pocketformer.compress.quantize.config import NBitsConfig
from pocketformer.compress.quantize.embeddings_core import QuantizedTable, pack, quantize_table
from pocketformer.compress.quantize.gptq_core import gptq, relative_cost
from pocketformer.compress.quantize.graph_state import load_unquantized, save
from pocketformer.compress.quantize.hqq_core import quantize_half_quadratic
from pocketformer.compress.quantize.products import Feeds, Product, constant_products, input_moments
from pocketformer.runtime.errors import InputError, ModelError
from pocketformer.runtime.results import StepResult

FloatArray = NDArray[np.float64]
_BITS = 4
_GRID = 16  # clipped ranges tried for the scales that GPTQ rounds with


def quantize_nbits(
    graph: Path, output: Path, config: NBitsConfig, calibration: Feeds = ()
) -> StepResult[Path]:
    """Write the fp32 ``graph`` with its products' weights in 4 bits.

    ``calibration`` is what GPTQ and AWQ take second moments on. Metrics: ``bytes``, ``quantized_products`` and with
    moments ``relative_cost`` (``gptq_core``), the mean over products. Raises ``AlreadyQuantizedError``, ``InputError``
    without calibration where it is needed, and ``ModelError`` for a graph without such products.
    """
    if config.needs_calibration and not calibration:
        raise InputError(
            f"{config.method} needs calibration texts", hint="Pass feeds made of training texts."
        )
    model = load_unquantized(graph)
    products = [
        product
        for product in constant_products(model)
        if product.node.op_type != "Attention" and product.weight.size >= config.smallest
    ]
    if not products:
        raise ModelError(f"{graph} has no product with constant weights", hint="Leave this candidate out.")
    reads = [product.read for product in products]
    moments = input_moments(model, reads, calibration) if config.needs_calibration else {}
    scales = _input_scales(products, moments, config) if config.method == "awq" else {}
    costs = []
    for product in products:
        scale = scales.get(product.read)
        weight = product.weight if scale is None else (product.weight * scale[:, None]).astype(np.float32)
        table = _quantized(weight, moments.get(product.read), config)
        if product.read in moments:
            back = table.dequantize().T[: len(weight)].astype(np.float64)
            back = back if scale is None else back / scale[:, None]
            costs.append(relative_cost(product.weight.astype(np.float64), back, moments[product.read]))
        _replace(model, product, table, config)
    for read, scale in scales.items():
        _divide(model, read, scale)
    save(model, output)
    metrics = {"bytes": float(output.stat().st_size), "quantized_products": float(len(products))}
    if costs:
        metrics["relative_cost"] = float(np.mean(costs))
    return StepResult(output=output, metrics=metrics)


def _quantized(
    weight: NDArray[np.float32], moments: FloatArray | None, config: NBitsConfig
) -> QuantizedTable:
    """Codes of a weight [K, N] by columns: a table [N, K], padded to whole blocks."""
    short = -len(weight) % config.block_size
    rows = np.ascontiguousarray(np.pad(weight, ((0, short), (0, 0)), mode="edge").T)
    how: dict[str, Any] = {"bits": _BITS, "block": config.block_size, "symmetric": config.symmetric}
    if config.method == "hqq":
        return quantize_half_quadratic(rows, **how)
    if config.method != "gptq" or moments is None:
        return quantize_table(rows, grid=1, **how)
    table = quantize_table(rows, grid=_GRID, **how)
    scales: FloatArray = table.scales.astype(np.float64)
    middle = np.full(table.scales.shape, 1 << (_BITS - 1), np.uint8)
    zeros = middle if table.zero_points is None else table.zero_points

    def nearest(row: int, values: FloatArray) -> tuple[NDArray[np.uint8], FloatArray]:
        scale, zero = scales[:, row // config.block_size], zeros[:, row // config.block_size]
        codes = np.clip(np.rint(values / scale) + zero, 0, (1 << _BITS) - 1).astype(np.uint8)
        return codes, (codes - zero.astype(np.float64)) * scale

    table.codes[:, : len(weight)] = gptq(
        weight.astype(np.float64), moments, nearest, damping=config.damping
    ).T
    return table


def _input_scales(
    products: list[Product], moments: dict[str, FloatArray], config: NBitsConfig
) -> dict[str, FloatArray]:
    def back(weight: FloatArray) -> FloatArray:
        table = _quantized(weight.astype(np.float32), None, config)
        return table.dequantize().T[: len(weight)].astype(np.float64)

    return {
        read: awq_scales(
            [p.weight.astype(np.float64) for p in products if p.read == read], moments[read], back
        )
        for read in dict.fromkeys(product.read for product in products)
    }


def _replace(model: Any, product: Product, table: QuantizedTable, config: NBitsConfig) -> None:
    """Put MatMulNBits where the product stood; its weight [N, blocks, bytes], scales and zero points flat."""
    from onnx import helper, numpy_helper

    graph, node = model.graph, product.node
    inputs, outputs = product.weight.shape
    blocks = table.scales.shape[1]
    arrays = {"codes": pack(table.codes, _BITS).reshape(outputs, blocks, -1), "scales": table.scales.ravel()}
    if table.zero_points is not None:
        arrays["zero_points"] = pack(table.zero_points, _BITS).ravel()
    graph.initializer.remove(next(item for item in graph.initializer if item.name == product.name))
    for what, array in arrays.items():
        graph.initializer.append(numpy_helper.from_array(array, f"{product.name}_{what}"))
    settings = {attribute.name: attribute.f for attribute in node.attribute}
    if settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0:
        raise ModelError(f"{node.name} scales its product", hint="Export again with another exporter.")
    bias = node.input[2] if len(node.input) > 2 else ""
    result = f"{node.output[0]}_product" if bias else node.output[0]
    new = [
        helper.make_node(
            "MatMulNBits",
            [product.read, *(f"{product.name}_{what}" for what in arrays)],
            [result],
            name=f"{result}_nbits",
            domain="com.microsoft",
            K=inputs,
            N=outputs,
            bits=_BITS,
            block_size=config.block_size,
            accuracy_level=config.accuracy_level,
        )
    ]
    if bias:
        new.append(helper.make_node("Add", [result, bias], [node.output[0]], name=f"{result}_bias"))
    place = next(i for i, other in enumerate(graph.node) if other is node or other == node)
    del graph.node[place]
    for offset, item in enumerate(new):
        graph.node.insert(place + offset, item)


def _divide(model: Any, read: str, scale: FloatArray) -> None:
    """Let the 4-bit products of the tensor ``read`` read it divided by ``scale``."""
    from onnx import helper, numpy_helper

    graph = model.graph
    inverse = numpy_helper.from_array((1 / scale).astype(np.float32), f"{read}_awq")
    graph.initializer.append(inverse)
    readers = [n for n in graph.node if n.op_type == "MatMulNBits" and n.input[0] == read]
    place = next(i for i, node in enumerate(graph.node) if any(node is reader for reader in readers))
    for reader in readers:
        reader.input[0] = f"{read}_scaled"
    graph.node.insert(
        place, helper.make_node("Mul", [read, inverse.name], [f"{read}_scaled"], name=f"{read}_scaled")
    )
