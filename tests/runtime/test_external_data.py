"""Graphs are made with the ``onnx`` package, which the runtime does without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pocketformer.runtime import external_data
from pocketformer.runtime.contents import Folder
from pocketformer.runtime.errors import VerificationError
from pocketformer.runtime.external_data import refuse_external_data

Change = Callable[[Any, Any], None]


def small_model() -> Any:
    """Uses everything that may hold a tensor, and all tensors hold their values."""
    value = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    output = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    constant = helper.make_node("Constant", [], ["b"], value=value)
    branch = helper.make_graph([constant], "branch", [], [output], initializer=[value])
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Many", ["y"], ["z"], domain="local", tensors=[value, value], graphs=[branch]),
        helper.make_node("Add", ["x", "w"], ["sum"], doc_string="a" * 300),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        initializer=[value, helper.make_tensor("f", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])],
    )
    sparse = graph.sparse_initializer.add(dims=[9])
    sparse.values.CopyFrom(value)
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(6), "i"))
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "Many", ["a"], ["b"], [constant], opset)
    function.attribute_proto.add().CopyFrom(helper.make_attribute("t", value))
    model = helper.make_model(graph, functions=[function], opset_imports=opset)
    training = model.training_info.add()
    training.algorithm.CopyFrom(branch)
    training.initialization.CopyFrom(branch)
    return model


def tensors(message: Any) -> list[Any]:
    """Every TensorProto inside, found by protobuf's own description of the messages."""
    found = [message] if message.DESCRIPTOR.name == "TensorProto" else []
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for item in value if field.is_repeated else [value]:
                found += tensors(item)
    return found


# Two branches of two, two and a graph of two, two initializers, a sparse one of two, a function's two, training's four.
COUNT = 4 + 4 + 2 + 2 + 2 + 4


def test_a_graph_that_holds_its_values(tiny_graph: Path) -> None:
    assert len(tensors(small_model())) == COUNT
    refuse_external_data(small_model().SerializeToString(), "model.onnx")
    with Folder(tiny_graph.parent).view(tiny_graph.name) as view:
        refuse_external_data(view, "model.onnx")


@pytest.mark.parametrize("index", range(COUNT))
@pytest.mark.parametrize("marked", ["both", "location", "entries"])
def test_external_data_in_any_tensor(index: int, marked: str) -> None:
    model = small_model()
    tensor = tensors(model)[index]
    if marked != "entries":
        tensor.data_location = TensorProto.EXTERNAL
    if marked != "location":
        tensor.external_data.add(key="location", value="../secret")
    with pytest.raises(VerificationError, match="external data") as caught:
        refuse_external_data(model.SerializeToString(), "model.onnx")
    assert caught.value.message.startswith("cannot load model.onnx:")


def test_an_engine_in_a_file() -> None:
    model = small_model()
    model.graph.node[0].attribute[0].g.node.add(op_type="EPContext", domain="com.microsoft")
    with pytest.raises(VerificationError, match="EPContext"):
        refuse_external_data(model.SerializeToString(), "model.onnx")


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, its tag written the short way."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def graph_of(tensor: bytes) -> bytes:
    return field(7, field(5, tensor))


@pytest.mark.parametrize(
    ("shown", "graph"),
    [
        ("a tag written the long way", graph_of(b"\xea\x00\x00")),
        ("a tag whose upper bits protobuf drops", graph_of(b"\xea\x80\x80\x80\x10\x00")),
        ("a location that is cut to 32 bits", graph_of(b"\x70" + varint(2**32 + 1))),
        ("a location of a later version", graph_of(b"\x70\x02")),
        ("a second location that takes the first one back", graph_of(b"\x70\x01\x70\x00")),
        ("a location as bytes", graph_of(b"\x72\x00")),
        ("a graph in two parts", field(7, b"") + graph_of(b"\x70\x01")),
        ("a number without an end", graph_of(b"\x70" + b"\x80" * 20)),
        ("a length beyond the end", b"\x3a\x7f\x00"),
        ("a length beyond the message around it", field(7, b"\x2a\x05\x00") + b"\x00" * 9),
        ("a group", b"\x3b\x3c"),
        ("a field 0", b"\x02\x00"),
        ("an end in the middle", b"\x3a"),
        ("eight bytes that are not there", b"\x09\x00"),
        ("nothing", b""),
        ("another file", b"not a graph"),
        ("onnxruntime's own format", b"\x20\x00\x00\x00ORTM" + b"\x00" * 40),
    ],
)
def test_what_readers_could_take_differently(shown: str, graph: bytes) -> None:
    with pytest.raises(VerificationError, match="cannot load"):
        refuse_external_data(graph, "model.onnx")


def test_graphs_in_one_another() -> None:
    graph = b"\x70\x00"
    for _ in range(20_000):
        graph = field(1, field(5, field(6, graph)))
        if len(graph) > 100_000:
            break
    with pytest.raises(VerificationError, match="deep in one another"):
        refuse_external_data(field(7, graph), "model.onnx")


def test_fields_without_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_data, "_MOST_FIELDS", 1000)
    refuse_external_data(b"\x08\x00" * 1000, "model.onnx")
    with pytest.raises(VerificationError, match="more than 1000 fields"):
        refuse_external_data(b"\x08\x00" * 1001, "model.onnx")


@given(content=st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_end(content: bytes) -> None:
    """And what protobuf's own parser finds external is never let through."""
    _agrees(content)


WHOLE = small_model().SerializeToString()


@given(data=st.data())
@settings(max_examples=300)
def test_any_change_of_a_graph_ends(data: st.DataObject) -> None:
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    _agrees(bytes(content[: data.draw(st.integers(len(content) - 9, len(content)))]))


def _agrees(content: bytes) -> None:
    try:
        refuse_external_data(content, "model.onnx")
    except VerificationError:
        return
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        return
    assert not [t for t in tensors(model) if t.external_data or t.data_location == TensorProto.EXTERNAL]
