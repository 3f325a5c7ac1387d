"""Refuse an ONNX graph that would have other files opened, before an engine sees it.

A tensor may say that its values lie in a file (``data_location``, ``external_data``: ONNX, docs/ExternalData.md), and
an ``EPContext`` node that its engine does (onnxruntime, EPContext design). A bundle's graph is one file, so both are
refused, wherever they stand: initializers, attributes, the graphs inside nodes, functions, sparse tensors, training.

Written for the wire format (protobuf.dev, Encoding) and the field numbers of onnx.proto, because the ``onnx`` package
stays on the workstation. Weights are stepped over by their length, so that a graph of gigabytes costs no more than its
nodes. It is stricter than protobuf where readers might differ: a number too long for its type ends it.
"""

from __future__ import annotations

from typing import Any

from pocketformer.runtime.contents import COPY_AGAIN, Buffer
from pocketformer.runtime.errors import VerificationError

# Messages by the fields that may lead to a tensor: field number -> message. Those without any are stepped over.
_TENSOR: dict[int, Any] = {}
_SPARSE: dict[int, Any] = {1: _TENSOR, 2: _TENSOR}
_GRAPH: dict[int, Any] = {5: _TENSOR, 15: _SPARSE}
_ATTRIBUTE: dict[int, Any] = {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE}
_NODE: dict[int, Any] = {5: _ATTRIBUTE}
_GRAPH[1] = _NODE
_TRAINING: dict[int, Any] = {1: _GRAPH, 2: _GRAPH}
_FUNCTION: dict[int, Any] = {7: _NODE, 11: _ATTRIBUTE}
_MODEL: dict[int, Any] = {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION}

_EXTERNAL_DATA, _DATA_LOCATION, _OPERATOR = 13, 14, 4
_ENGINE_IN_A_FILE = b"EPContext"
# The wire types: a number, eight bytes, bytes with their length before them, four bytes. Groups are in no ONNX file.
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
# What protobuf itself reads at most, by default.
_DEEPEST = 100
# Seconds of work, and many times what a graph of thousands of nodes has.
_MOST_FIELDS = 4_000_000
# A node this small is copied out of a mapped file, because looking at bytes is faster there.
_COPIED = 1 << 14


def refuse_external_data(graph: Buffer, name: str) -> None:
    """Return when ``graph``, the bytes of an ONNX model, refers to no file.

    Raises ``VerificationError`` that calls the graph ``name`` when it does, or when it is no whole ONNX model.
    """
    try:
        _walk(graph)
    except IndexError:
        raise _refused(name, "it is no ONNX file: it ends in the middle of a field") from None
    except _RefusedError as error:
        raise _refused(name, str(error)) from None


class _RefusedError(Exception):
    """Why the graph is not taken."""


def _refused(name: str, reason: str) -> VerificationError:
    return VerificationError(f"cannot load {name}: {reason}", hint=COPY_AGAIN)


def _walk(graph: Buffer) -> None:
    if len(graph) == 0:
        raise _RefusedError("it is no ONNX file: it is empty")
    fields = 0
    # Where to go on in the messages around the one at hand: as many as lie in one another, and no more.
    around: list[tuple[Buffer, int, int, dict[int, Any]]] = []
    data, position, end, leads = graph, 0, len(graph), _MODEL
    while True:
        if position >= end:
            if position > end:
                raise IndexError
            if not around:
                return
            data, position, end, leads = around.pop()
            continue
        fields += 1
        if fields > _MOST_FIELDS:
            raise _RefusedError(f"it has more than {_MOST_FIELDS} fields")
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(data, position - 1, 5)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _RefusedError("it is no ONNX file: a field has the number 0")
        if leads is _TENSOR and number in (_EXTERNAL_DATA, _DATA_LOCATION):
            value, position = (1, position) if wire != _VARINT else _varint(data, position, 10)
            if value != 0 or number == _EXTERNAL_DATA:
                raise _RefusedError("a tensor of it keeps its values in another file (external data)")
        elif wire == _BYTES:
            length = data[position]
            position += 1
            if length >= 0x80:
                length, position = _varint(data, position - 1, 5)
            start, position = position, position + length
            if position > end:
                raise IndexError
            inner = leads.get(number)
            if inner is not None:
                around.append((data, position, end, leads))
                if len(around) > _DEEPEST:
                    raise _RefusedError(f"its messages lie more than {_DEEPEST} deep in one another")
                if inner is _NODE and length <= _COPIED:
                    data, start, position = data[start:position], 0, length
                end, position, leads = position, start, inner
            elif number == _OPERATOR and leads is _NODE and data[start:position] == _ENGINE_IN_A_FILE:
                raise _RefusedError("a node of it keeps its engine in another file (EPContext)")
        elif wire == _VARINT:
            _, position = _varint(data, position, 10)
        elif wire == _FOUR:
            position += 4
        elif wire == _EIGHT:
            position += 8
        else:
            raise _RefusedError(f"it is no ONNX file: there is no wire type {wire}")


def _varint(data: Buffer, position: int, most: int) -> tuple[int, int]:
    """A number of at most ``most`` bytes and where it ends; one of five bytes fits 32 bits, one of ten 64."""
    value = shift = 0
    for _ in range(most):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> (32 if most == 5 else 64):
                break
            return value, position
        shift += 7
    raise _RefusedError("it is no ONNX file: a number is too long for its type")
