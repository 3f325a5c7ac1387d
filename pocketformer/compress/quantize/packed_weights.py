"""Weights of int8 products stored in half a byte or less, and expanded to int8 while onnxruntime loads the graph.

The dynamic int8 graph holds a weight int8 [K, N] for each product. Here the file holds bytes [K, N / group] and one
table of what a byte stands for, ``group`` weights each, so that the weight becomes

    Reshape(Gather(table, Cast(codes)), [0, -1])    [and a Slice where N is no multiple of group].

All of it is constant, so onnxruntime folds it into an int8 initializer (its basic optimizations) before it looks for
int8 products to fuse: what runs is the very graph that int8 weights give. Only standard operators of opset 13 are used;
int4 tensors would need opset 21, and MatMulNBits computes an encoder's long products more slowly (docs/decisions).

A weight is s_j * L[c] with a scale for each column and 16 levels (group 2, 4 bits) or 6 (group 3, 2.67 bits); see
``levels_core``. The numbers c are the nearest ones, or GPTQ's (``gptq_core``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketformer.compress.quantize.config import PackedWeightsConfig
from pocketformer.compress.quantize.gptq_core import gptq, refitted_scales, relative_cost
from pocketformer.compress.quantize.graph_state import load, save
from pocketformer.compress.quantize.levels_core import (
    column_scales,
    group_codes,
    group_table,
    integer_levels,
    nearest_level,
)
from pocketformer.compress.quantize.products import Feeds, constant_products, input_moments
from pocketformer.runtime.errors import InputError, ModelError

FloatArray = NDArray[np.float64]
_TABLE, _ROWS = "packed_weights_table", "packed_weights_rows"


def pack_weights(
    graph: Path, quantized: Path, config: PackedWeightsConfig, calibration: Feeds
) -> dict[str, float]:
    """Rewrite the dynamic int8 graph ``quantized`` in place; ``graph`` is the fp32 graph that it was made from.

    ``calibration`` is what GPTQ takes second moments on; method "rtn" does not read it. Gives the metrics
    ``packed_products`` and ``packed_error``, the mean relative cost (``gptq_core``; with "rtn" for inputs that are all
    alike). Raises ``InputError`` without calibration where it is needed, ``ModelError`` when nothing can be packed.
    """
    if config.method == "gptq" and not calibration:
        raise InputError("GPTQ needs calibration texts", hint="Pass feeds made of training texts.")
    source, model = load(graph), load(quantized)
    stored = {item.name: item for item in model.graph.initializer}
    products = [
        product
        for product in constant_products(source)
        if product.weight.size >= config.smallest and f"{product.name}_quantized" in stored
    ]
    if not products:
        raise ModelError(f"{quantized} holds no int8 weights to pack", hint="Leave this candidate out.")
    moments = (
        input_moments(source, [product.read for product in products], calibration)
        if config.method == "gptq"
        else {}
    )
    levels = integer_levels(int(256 ** (1 / config.group) + 1e-9))
    _put(model, _TABLE, group_table(levels, config.group))
    _put(model, _ROWS, np.array([0, -1], np.int64))
    costs = []
    for product in products:
        weight = product.weight.astype(np.float64)
        seen = moments.get(product.read)
        codes, scales = rounded(weight, levels.astype(np.float64), seen, config.damping)
        back = levels.astype(np.float64)[codes] * scales
        costs.append(relative_cost(weight, back, np.eye(len(weight)) if seen is None else seen))
        _check_scales(stored, product.name, scales)
        _put(model, f"{product.name}_scale", scales.astype(np.float32))
        _expand(model, f"{product.name}_quantized", codes, len(levels), config.group)
    save(model, quantized)
    return {"packed_products": float(len(products)), "packed_error": float(np.mean(costs))}


def rounded(
    weight: FloatArray, levels: FloatArray, moments: FloatArray | None, damping: float
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Numbers of levels uint8 [K, N] and scales [N]: the nearest levels, or GPTQ's where ``moments`` are given."""
    if moments is None:
        scales = column_scales(weight, levels)
        return nearest_level(weight / scales, levels), scales
    scales = column_scales(weight, levels, np.diag(moments))

    def nearest(_: int, row: FloatArray) -> tuple[NDArray[np.uint8], FloatArray]:
        codes = nearest_level(row, levels)
        return codes, levels[codes]

    codes = gptq(weight / scales, moments, nearest, damping=damping)
    return codes, refitted_scales(weight, levels[codes], moments)


def _check_scales(stored: dict[str, Any], name: str, scales: FloatArray) -> None:
    zero_point = stored.get(f"{name}_zero_point")
    if list(stored[f"{name}_scale"].dims) != [len(scales)] or zero_point is None:
        raise InputError(
            f"{name} has no scale for each output", hint="Set per_channel: packed weights need it."
        )


def _expand(model: Any, name: str, codes: NDArray[np.uint8], levels: int, group: int) -> None:
    """Replace the int8 initializer ``name`` by bytes, and by the nodes that make it of them."""
    from onnx import TensorProto, helper

    outputs = codes.shape[1]
    _remove(model, name)
    _put(model, f"{name}_codes", group_codes(codes, levels, group))
    whole = outputs % group == 0
    rows = name if whole else f"{name}_rows"
    nodes = [
        helper.make_node("Cast", [f"{name}_codes"], [f"{name}_numbers"], to=TensorProto.INT32),
        helper.make_node("Gather", [_TABLE, f"{name}_numbers"], [f"{name}_groups"]),
        helper.make_node("Reshape", [f"{name}_groups", _ROWS], [rows]),
    ]
    if not whole:
        for what, value in (("from", 0), ("to", outputs), ("axis", 1)):
            _put(model, f"{name}_{what}", np.array([value], np.int64))
        bounds = [f"{name}_{what}" for what in ("from", "to", "axis")]
        nodes.append(helper.make_node("Slice", [rows, *bounds], [name]))
    for place, node in enumerate(nodes):
        node.name = node.output[0]
        model.graph.node.insert(place, node)


def _put(model: Any, name: str, array: NDArray[Any]) -> None:
    from onnx import numpy_helper

    _remove(model, name)
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))


def _remove(model: Any, name: str) -> None:
    for item in model.graph.initializer:
        if item.name == name:
            model.graph.initializer.remove(item)
            return
