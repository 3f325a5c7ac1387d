"""A small classifier as a real LiteRT file, written without the converter: logits are the sum of its tokens' rows.

    logits = SUM(GATHER(table, input_ids) * RESHAPE(CAST(attention_mask)), axis=1)

The schema is that of ai_edge_litert; LiteRT's own interpreter runs it. It stands for what ``export --format litert``
writes: the same inputs, output and names of signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def write_litert_file(path: Path, table: np.ndarray, lengths: Sequence[int], prefix: str = "tokens_") -> Path:
    """``table`` is float32 [vocabulary, labels]; one signature for each of ``lengths``."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version = 3
    model.description = "sum of rows"
    codes = ("GATHER", "CAST", "RESHAPE", "MUL", "SUM")
    model.operatorCodes = [_code(schema, name) for name in codes]
    model.buffers = [
        _buffer(schema, None),
        _buffer(schema, table.astype(np.float32)),
        _buffer(schema, np.int32([1])),
    ]
    model.subgraphs, model.signatureDefs = [], []
    for index, length in enumerate(lengths):
        model.subgraphs.append(_subgraph(schema, table.shape, length, len(model.buffers)))
        model.buffers.append(_buffer(schema, np.int32([1, length, 1])))
        signature = schema.SignatureDefT()
        signature.signatureKey = f"{prefix}{length}"
        signature.subgraphIndex = index
        signature.inputs = [_map(schema, "input_ids", 0), _map(schema, "attention_mask", 1)]
        signature.outputs = [_map(schema, "logits", 9)]
        model.signatureDefs.append(signature)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _code(schema: Any, name: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = code.builtinCode
    code.version = 1
    return code


def _buffer(schema: Any, values: np.ndarray | None) -> Any:
    buffer = schema.BufferT()
    buffer.data = None if values is None else list(np.ascontiguousarray(values).tobytes())
    return buffer


def _map(schema: Any, name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry


def _subgraph(schema: Any, shape: tuple[int, ...], length: int, reshape: int) -> Any:
    kinds = schema.TensorType
    vocabulary, labels = shape
    tensors = [
        ("ids", kinds.INT32, [1, length], 0),
        ("mask", kinds.INT32, [1, length], 0),
        ("table", kinds.FLOAT32, [vocabulary, labels], 1),
        ("axis", kinds.INT32, [1], 2),
        ("column", kinds.INT32, [3], reshape),
        ("rows", kinds.FLOAT32, [1, length, labels], 0),
        ("floats", kinds.FLOAT32, [1, length], 0),
        ("weights", kinds.FLOAT32, [1, length, 1], 0),
        ("masked", kinds.FLOAT32, [1, length, labels], 0),
        ("logits", kinds.FLOAT32, [1, labels], 0),
    ]
    graph = schema.SubGraphT()
    graph.tensors = []
    for name, kind, dims, buffer in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.shape, tensor.buffer = name, kind, dims, buffer
        graph.tensors.append(tensor)
    graph.inputs, graph.outputs = [0, 1], [9]
    options = schema.BuiltinOptions
    graph.operators = [
        _operator(schema, 0, [2, 0], [5], options.GatherOptions, schema.GatherOptionsT()),
        _operator(schema, 1, [1], [6], options.CastOptions, schema.CastOptionsT()),
        _operator(schema, 2, [6, 4], [7], options.ReshapeOptions, schema.ReshapeOptionsT()),
        _operator(schema, 3, [5, 7], [8], options.MulOptions, schema.MulOptionsT()),
        _operator(schema, 4, [8, 3], [9], options.ReducerOptions, schema.ReducerOptionsT()),
    ]
    return graph


def _operator(schema: Any, code: int, inputs: list[int], outputs: list[int], kind: int, settings: Any) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, settings
    return operator
