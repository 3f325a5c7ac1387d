"""Embedding tables as int8 rows with a scale each, in the form that TensorRT keeps in int8.

    Gather(table, ids)  becomes  Gather(DequantizeLinear(codes, scales, axis=0), ids)

TensorRT takes int8 constants before a DequantizeLinear only, and fuses that into the look-up: the engine holds the
codes and expands the rows that are read. The codes are round(127 x / max|row|), so scales are positive and zero
points are 0, as it asks; ``embeddings`` has the forms for onnxruntime, which would expand this one while it loads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketformer.compress.quantize.config import DequantizedTablesConfig
from pocketformer.compress.quantize.graph_state import load, save
from pocketformer.runtime.errors import ModelError
from pocketformer.runtime.results import StepResult


def dequantize_tables(graph: Path, output: Path, config: DequantizedTablesConfig) -> StepResult[Path]:
    """Write ``graph`` with its float32 look-up tables as int8; tables that something else reads too stay.

    Metrics: ``bytes`` of the file, ``tables`` changed, ``table_bytes`` that they take now. Notes name tables that
    stayed. A graph without such tables is copied. Raises ``ModelError`` for a table that is not finite.
    """
    from onnx import TensorProto, helper, numpy_helper

    model = load(graph)
    initializers = {item.name: item for item in model.graph.initializer}
    notes: list[str] = []
    nodes: list[Any] = []
    taken = 0
    for name, table in initializers.items():
        readers = [node for node in model.graph.node if name in node.input]
        lookups = [node for node in readers if _looks_up_rows(node, name)]
        size = 4 * int(np.prod(table.dims))
        if table.data_type != TensorProto.FLOAT or len(table.dims) != 2 or size < config.smallest_bytes:
            continue
        if not lookups or len(lookups) != len(readers):
            if lookups:
                notes.append(f"{name} stays float32: it is not only looked up")
            continue
        codes, scales = row_codes(numpy_helper.to_array(table), name)
        arrays: dict[str, NDArray[Any]] = {
            "codes": codes,
            "scales": scales,
            "zeros": np.zeros(len(codes), np.int8),
        }
        model.graph.initializer.remove(table)
        for suffix, array in arrays.items():
            model.graph.initializer.append(numpy_helper.from_array(array, f"{name}_{suffix}"))
        inputs = [f"{name}_{suffix}" for suffix in arrays]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}/Dequantize", axis=0))
        taken += sum(array.nbytes for array in arrays.values())
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    save(model, output)
    metrics = {
        "bytes": float(output.stat().st_size),
        "tables": float(len(nodes)),
        "table_bytes": float(taken),
    }
    return StepResult(output=output, metrics=metrics, notes=notes)


def row_codes(table: NDArray[np.float32], name: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes int8 [rows, columns] and scales float32 [rows] > 0 of a float32 table; ``ModelError`` if not finite."""
    if not np.isfinite(table).all():
        raise ModelError(f"{name} holds values that are not finite", hint="Check the model's weights.")
    largest = np.abs(table).max(axis=1)
    # A row of zeros has any scale; a positive one is asked for.
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    codes = np.clip(np.rint(table / scales[:, None]), -127, 127).astype(np.int8)
    return codes, scales


def _looks_up_rows(node: Any, table: str) -> bool:
    along_rows = all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
    return node.op_type == "Gather" and node.input[0] == table and along_rows
