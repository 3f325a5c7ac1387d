"""Rewrite the embedding tables of an ONNX graph into int8 or int4 codes that are expanded after the look-up.

Half of a small encoder's bytes are its word table, and a call reads a few rows of it. Each
``Gather(table, ids)`` becomes either standard operators over whole rows (8 bits),

    Cast(Gather(codes, ids)) * Gather(scales, ids) [+ Gather(offsets, ids)],

or one com.microsoft ``GatherBlockQuantized`` over blocks of columns (8 or 4 bits, codes packed in uint8, so
that neither a newer opset nor int4 tensors are needed), or a codebook in standard operators,

    Reshape(Gather(codebook, Cast(Gather(codes, ids)))) * Gather(scales, ids).

An ``EmbedLayerNormalization`` that onnxruntime's
optimizer made is taken apart first. Nothing but the tables changes, so this works before and after the
products are quantized.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pocketformer.compress.quantize.codebook_core import CodebookTable, quantize_with_codebook
from pocketformer.compress.quantize.config import EmbeddingsConfig
from pocketformer.compress.quantize.embeddings_core import QuantizedTable, pack, quantize_table
from pocketformer.compress.quantize.graph_state import load, put_in_place, save
from pocketformer.compress.quantize.unfuse import unfuse_embeddings
from pocketformer.runtime.errors import AlreadyQuantizedError, InputError, ModelError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    from onnx import NodeProto

_MICROSOFT = "com.microsoft"
_REMEMBERED = 6  # results, each at most a byte for every element of its table
_RECENT: dict[tuple[Any, ...], Any] = {}
_SMALLEST_BLOCK = 16  # of GatherBlockQuantized


def quantize_embeddings(
    graph: Path,
    output: Path,
    config: EmbeddingsConfig,
) -> StepResult[Path]:
    """Write ``graph`` with quantized embedding tables.

    Metrics: ``bytes`` of the file, ``tables`` quantized, ``table_bytes`` that they take now,
    ``relative_error``: root of the summed squared error of the word table over its summed squares. Notes
    name tables that were left. Raises ``AlreadyQuantizedError`` when they are quantized already,
    ``ModelError`` when the graph looks up no table, ``InputError`` for settings that no operator takes.
    """
    _check(config)
    model = load(graph)
    taken = {"QEmbedLayerNormalization", "GatherBlockQuantized"} & {n.op_type for n in model.graph.node}
    if taken:
        raise AlreadyQuantizedError(
            f"the embeddings of {graph} are quantized already ({', '.join(sorted(taken))})",
            hint="Start from the graph before that step.",
        )
    unfuse_embeddings(model)
    rewriter = _Rewriter(model, config)
    rewriter.run()
    if not rewriter.tables:
        raise ModelError(
            f"{graph} looks up no embedding table of at least {config.smallest_bytes} bytes in float32",
            hint="Leave the candidates with quantized embeddings out, or start from the exported graph.",
        )
    save(model, output)
    return StepResult(
        output=output,
        metrics={
            "bytes": float(output.stat().st_size),
            "tables": float(rewriter.tables),
            "table_bytes": float(rewriter.table_bytes),
            "relative_error": rewriter.relative_error,
        },
        notes=rewriter.notes,
    )


def _check(config: EmbeddingsConfig) -> None:
    block = config.block_size
    if config.bits == 4 and block is None:
        raise InputError("4-bit embeddings need a block size", hint="Use block_size 32, 64 or 128.")
    if block is not None and (block < _SMALLEST_BLOCK or block & (block - 1)):
        raise InputError(
            f"block_size is {block}", hint=f"Use a power of 2 of at least {_SMALLEST_BLOCK}, such as 64."
        )


class _Rewriter:
    """Replaces the look-ups of one graph in place, and counts."""

    def __init__(self, model: Any, config: EmbeddingsConfig) -> None:
        self.graph = model.graph
        self.config = config
        self.initializers = {item.name: item for item in self.graph.initializer}
        self.tables = 0
        self.table_bytes = 0
        self.relative_error = 0.0
        self.notes: list[str] = []

    def run(self) -> None:
        self._quantize_sliced()
        lookups = self._lookups()
        word_ids = _aliases(self.graph, "input_ids")
        for name, nodes in lookups.items():
            others = [n for n in self.graph.node if name in n.input and not any(n is m for m in nodes)]
            if others:
                self.notes.append(f"{name} stays float32: {others[0].op_type} reads it too")
                continue
            is_word = any(node.input[1] in word_ids for node in nodes)
            # Position and type tables are small and their rows take part in every text.
            if is_word and self.config.codebook_group is not None:
                self._replace_by_codebook(name, nodes, self.config.codebook_group)
            else:
                config = self.config if is_word else replace(self.config, bits=8)
                self._replace(name, nodes, config, is_word)

    def _quantize_sliced(self) -> None:
        """Tables whose first rows are read (position embeddings): int8 rows that expand when the graph is loaded."""
        from onnx import TensorProto, helper, numpy_helper

        for node in [node for node in self.graph.node if node.op_type == "Slice"]:
            item = self.initializers.get(node.input[0])
            if item is None or len(item.dims) != 2 or item.data_type != TensorProto.FLOAT:
                continue
            name = node.input[0]
            readers = [other for other in self.graph.node if name in other.input]
            if 4 * item.dims[0] * item.dims[1] < self.config.smallest_bytes or len(readers) > 1:
                continue
            table = numpy_helper.to_array(item)
            how = {
                "bits": 8,
                "block": table.shape[1],
                "symmetric": True,
                "grid": 1,
                "scale_dtype": np.float32,
            }
            arrays = _row_arrays(_remembered(quantize_table, table, how))
            arrays["scales"] = arrays["scales"].reshape(-1, 1)
            self._store(name, arrays)
            expanded = [
                helper.make_node("Cast", [f"{name}_codes"], [f"{name}_float"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}_float", f"{name}_scales"], [f"{name}_expanded"]),
            ]
            node.input[0] = f"{name}_expanded"
            put_in_place(self.graph, node, [*expanded, node])

    def _lookups(self) -> dict[str, list[NodeProto]]:
        """Gather nodes along the rows of float32 tables that are large enough, by table."""
        from onnx import TensorProto

        found: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            if node.op_type != "Gather" or any(a.name == "axis" and a.i != 0 for a in node.attribute):
                continue
            table = self.initializers.get(node.input[0])
            if table is None or len(table.dims) != 2 or table.data_type != TensorProto.FLOAT:
                continue
            if 4 * table.dims[0] * table.dims[1] >= self.config.smallest_bytes:
                found.setdefault(table.name, []).append(node)
        return found

    def _replace(self, name: str, nodes: list[NodeProto], config: EmbeddingsConfig, is_word: bool) -> None:
        from onnx import numpy_helper

        table = numpy_helper.to_array(self.initializers[name]).astype(np.float32)
        how = {
            "bits": config.bits,
            "block": table.shape[1] if config.block_size is None else config.block_size,
            "symmetric": config.symmetric,
            "grid": config.grid,
            "scale_dtype": np.float16 if config.half_scales else np.float32,
        }
        try:
            quantized: QuantizedTable = _remembered(quantize_table, table, how)
        except ValueError as error:
            raise ModelError(f"{name}: {error}", hint="Check the model's weights.") from error
        if is_word:
            self.relative_error = _relative_error(table, quantized.dequantize())
        arrays = _row_arrays(quantized) if config.block_size is None else _block_arrays(quantized)
        scales = arrays["scales"]
        arrays["scales"] = scales.astype(np.float16) if config.half_scales else scales
        self._store(name, arrays)
        make = _row_nodes if config.block_size is None else _block_nodes
        for node in nodes:
            put_in_place(self.graph, node, make(node, name, tuple(arrays), quantized, config.half_scales))

    def _replace_by_codebook(self, name: str, nodes: list[NodeProto], group: int) -> None:
        from onnx import numpy_helper

        table = numpy_helper.to_array(self.initializers[name]).astype(np.float32)
        try:
            quantized: CodebookTable = _remembered(quantize_with_codebook, table, {"group": group})
        except ValueError as error:
            raise ModelError(f"{name}: {error}", hint="Use another size of groups, or none.") from error
        self.relative_error = _relative_error(table, quantized.dequantize())
        arrays: dict[str, NDArray[Any]] = {
            "codes": quantized.codes,
            "codebook": quantized.codebook,
            "scales": quantized.scales,
            # 0: as many as there are, for batch and sequence.
            "shape": np.array([0, 0, quantized.codes.shape[1] * group], np.int64),
        }
        if quantized.codes.shape[1] * group > table.shape[1]:
            arrays |= {
                "from": np.array([0], np.int64),
                "to": np.array(table.shape[1:], np.int64),
                "axis": np.array([2], np.int64),
            }
        self._store(name, arrays)
        for node in nodes:
            put_in_place(self.graph, node, _codebook_nodes(node, name, cut="to" in arrays))

    def _store(self, name: str, arrays: dict[str, NDArray[Any]]) -> None:
        """Take the float32 table out of the graph and put its codes in."""
        from onnx import numpy_helper

        self.graph.initializer.remove(self.initializers[name])
        for suffix, array in arrays.items():
            self.graph.initializer.append(numpy_helper.from_array(array, f"{name}_{suffix}"))
            self.table_bytes += array.nbytes
        self.tables += 1


def _remembered(quantize: Callable[..., Any], table: NDArray[np.float32], how: dict[str, Any]) -> Any:
    """``quantize(table, **how)``, kept for the candidates that share a table and differ in their products."""
    key = (quantize.__name__, hashlib.sha256(table.tobytes()).hexdigest(), tuple(how.items()))
    if key not in _RECENT:
        while len(_RECENT) >= _REMEMBERED:
            del _RECENT[next(iter(_RECENT))]
        _RECENT[key] = quantize(table, **how)
    return _RECENT[key]


def _relative_error(table: NDArray[np.float32], back: NDArray[np.float32]) -> float:
    energy = float((table.astype(np.float64) ** 2).sum())
    wrong = float(((table - back).astype(np.float64) ** 2).sum())
    return float((wrong / energy) ** 0.5) if energy else 0.0


def _row_arrays(table: QuantizedTable) -> dict[str, NDArray[Any]]:
    """Codes int8 and a scale for each row; asymmetric rows also get an offset, -zero point x scale."""
    middle = 1 << (table.bits - 1)
    arrays: dict[str, NDArray[Any]] = {
        "codes": (table.codes.astype(np.int16) - middle).astype(np.int8),
        "scales": table.scales,
    }
    if table.zero_points is not None:
        arrays["offsets"] = (middle - table.zero_points.astype(np.float32)) * table.scales
    return arrays


def _block_arrays(table: QuantizedTable) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"codes": pack(table.codes, table.bits), "scales": table.scales}
    if table.zero_points is not None:
        arrays["zero_points"] = pack(table.zero_points, table.bits)
    return arrays


def _row_nodes(
    node: NodeProto, name: str, arrays: tuple[str, ...], _: QuantizedTable, half: bool
) -> list[NodeProto]:
    from onnx import TensorProto, helper

    ids, result = node.input[1], node.output[0]
    nodes = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    codes = add("Gather", [f"{name}_codes", ids], f"{result}_codes")
    codes = add("Cast", [codes], f"{result}_float", to=TensorProto.FLOAT)
    scale = add("Gather", [f"{name}_scales", ids], f"{result}_of_row")
    if half:
        scale = add("Cast", [scale], f"{result}_of_row_float", to=TensorProto.FLOAT)
    if "offsets" in arrays:
        product = add("Mul", [codes, scale], f"{result}_scaled")
        offset = add("Gather", [f"{name}_offsets", ids], f"{result}_offset")
        add("Add", [product, offset], result)
    else:
        add("Mul", [codes, scale], result)
    return nodes


def _block_nodes(
    node: NodeProto, name: str, arrays: tuple[str, ...], table: QuantizedTable, half: bool
) -> list[NodeProto]:
    from onnx import TensorProto, helper

    ids, result = node.input[1], node.output[0]
    inputs = [f"{name}_codes", ids, f"{name}_scales"]
    if "zero_points" in arrays:
        inputs.append(f"{name}_zero_points")
    looked_up = f"{result}_half" if half else result
    nodes = [
        helper.make_node(
            "GatherBlockQuantized",
            inputs,
            [looked_up],
            name=f"{result}_blocks",
            domain=_MICROSOFT,
            bits=table.bits,
            block_size=table.block,
            gather_axis=0,
            quantize_axis=1,
        )
    ]
    if half:
        nodes.append(
            helper.make_node("Cast", [looked_up], [result], name=f"{result}_float", to=TensorProto.FLOAT)
        )
    return nodes


def _codebook_nodes(node: NodeProto, name: str, *, cut: bool) -> list[NodeProto]:
    from onnx import TensorProto, helper

    ids, result = node.input[1], node.output[0]
    row = f"{result}_cut" if cut else f"{result}_row"
    bounds = [f"{result}_row", f"{name}_from", f"{name}_to", f"{name}_axis"]
    steps: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("Gather", [f"{name}_codes", ids], f"{result}_codes", {}),
        # Indices are int32 or int64 by the standard.
        ("Cast", [f"{result}_codes"], f"{result}_numbers", {"to": TensorProto.INT32}),
        ("Gather", [f"{name}_codebook", f"{result}_numbers"], f"{result}_groups", {}),
        ("Reshape", [f"{result}_groups", f"{name}_shape"], f"{result}_row", {}),
        *([("Slice", bounds, row, {})] if cut else []),
        ("Gather", [f"{name}_scales", ids], f"{result}_of_row", {}),
        ("Mul", [row, f"{result}_of_row"], result, {}),
    )
    return [
        helper.make_node(operator, inputs, [output], name=output, **attributes)
        for operator, inputs, output, attributes in steps
    ]


def _aliases(graph: Any, name: str) -> set[str]:
    """``name`` and every tensor that only casts or passes it on."""
    found = {name}
    for node in graph.node:
        if node.op_type in ("Cast", "Identity") and node.input[0] in found:
            found.update(node.output)
    return found
