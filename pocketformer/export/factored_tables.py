"""Write an embedding table of low rank as two factors: a narrow table that is looked up, and a small product.

``Gather(table [rows, width], ids)`` becomes ``MatMul(Gather(factor [rows, rank], ids), basis [rank, width])``. Nothing
is lost by it: only tables that have such a rank already are taken apart (``prune --embedding-rank`` makes them). The
file shrinks by about rank / width of the table before anything is quantized.

The factor is rotated by an orthonormal DCT, so that all its columns vary alike: principal directions as they come have
a few large columns and many small ones, which would share one scale of few bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketformer.export.graph_file import load_graph, save_graph
from pocketformer.export.parity import DEFAULT_TOLERANCE, check_rewrite
from pocketformer.runtime.results import StepResult

_SMALLEST_BYTES = 1 << 18
# Two factors must be smaller than this share of the table, or they are not worth a product.
_WORTH = 0.7
# Singular values below this share of the largest are rounding of float32.
_NOTHING = 1e-5


def factor_tables(
    onnx_path: Path,
    output: Path,
    *,
    smallest_bytes: int = _SMALLEST_BYTES,
    tolerance: float = DEFAULT_TOLERANCE,
) -> StepResult[Path] | None:
    """Write ``onnx_path`` with its tables of low rank as factors; None, and no file, when it has none.

    Tables under ``smallest_bytes`` stay as they are.

    Metrics: ``tables`` taken apart, ``rank`` of the largest, ``max_abs_difference`` of the logits. Raises
    ``ParityError`` when that is above ``tolerance``.
    """
    model = load_graph(onnx_path)
    ranks = _factor(model, smallest_bytes)
    if not ranks:
        return None
    save_graph(model, output)
    difference = check_rewrite(
        onnx_path,
        output,
        tolerance=tolerance,
        what="writing the embedding table as two factors",
        hint="Leave the rank of the embeddings whole (embedding_rank: 1.0).",
    )
    metrics = {"tables": float(len(ranks)), "rank": float(max(ranks)), "max_abs_difference": difference}
    return StepResult(output=output, metrics=metrics)


def factors(table: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """``table`` [rows, width] as factor [rows, rank] and basis [rank, width]; None when its rank is not worth it."""
    rows, width = table.shape
    exact = table.astype(np.float64)
    values, vectors = np.linalg.eigh(exact.T @ exact)
    singular = np.sqrt(np.clip(values[::-1], 0.0, None))
    rank = int((singular > _NOTHING * max(float(singular[0]), np.finfo(np.float64).tiny)).sum())
    if rank == 0 or rank * (rows + width) > _WORTH * rows * width:
        return None
    basis = _cosines(rank) @ vectors[:, ::-1][:, :rank].T
    return (exact @ basis.T).astype(np.float32), basis.astype(np.float32)


def _cosines(size: int) -> NDArray[np.float64]:
    """The orthonormal DCT-II, [size, size]: each of its rows takes a little of every direction."""
    places = np.arange(size)
    matrix: NDArray[np.float64] = np.sqrt(2.0 / size) * np.cos(np.pi * np.outer(places + 0.5, places) / size)
    matrix[:, 0] /= np.sqrt(2.0)
    return matrix


def _factor(model: Any, smallest_bytes: int) -> list[int]:
    """Rewrite the ``onnx.ModelProto`` in place; the rank of each table that was taken apart."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    ranks: list[int] = []
    for table in list(graph.initializer):
        if table.data_type != TensorProto.FLOAT or len(table.dims) != 2 or table.ByteSize() < smallest_bytes:
            continue
        readers = [node for node in graph.node if table.name in node.input]
        if not readers or not all(_looks_up(node, table.name) for node in readers):
            continue
        parts = factors(numpy_helper.to_array(table))
        if parts is None:
            continue
        names = [f"{table.name}_factor", f"{table.name}_basis"]
        graph.initializer.remove(table)
        graph.initializer.extend(
            numpy_helper.from_array(part, name) for part, name in zip(parts, names, strict=True)
        )
        for node in readers:
            place = next(i for i, other in enumerate(graph.node) if other is node)
            result, narrow = node.output[0], f"{node.output[0]}_narrow"
            node.input[0], node.output[0] = names[0], narrow
            graph.node.insert(
                place + 1, helper.make_node("MatMul", [narrow, names[1]], [result], name=f"{result}_widened")
            )
        ranks.append(parts[1].shape[0])
    return ranks


def _looks_up(node: Any, table: str) -> bool:
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return node.op_type == "Gather" and node.input[0] == table and axis == 0
