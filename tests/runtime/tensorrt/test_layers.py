"""The build log's block of layers, as TensorRT-RTX 1.7.1 writes it; nothing here needs the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketformer.runtime.errors import VerificationError
from pocketformer.runtime.tensorrt.layers import (
    Layer,
    layers_path,
    parse_layers,
    precision_counts,
    read_layers,
    what_is_missing,
)


def tensor(name: str, kind: str) -> str:
    return (
        f"{{ Name: {name}, Dimensions: [-1,32], Strides: [32,1], StrideOrder: [1,0], Datatype: {kind}, "
        "Format: (Linear) Row major linear format }"
    )


def line(name: str, kind: str, inputs: list[str], outputs: list[str]) -> str:
    ins = ", ".join(tensor(f"in{i}", item) for i, item in enumerate(inputs))
    outs = ", ".join(tensor(f"out{i}", item) for i, item in enumerate(outputs))
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {ins}], Constants: [ {tensor('alpha', 'Float')}], "
        f"Outputs: [ {outs}], TacticName: {name}_0xab, StreamId: 0, Metadata: [ONNX Layer: /a][ONNX Layer: /b]"
    )


BLOCK = "\n".join(
    [
        "Layers:",
        "Name: shapes, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, "
        "Metadata: ",
        line("look-up", "kgen", ["Int64", "Int64"], ["Half"]),
        line("/query/MatMul+/key/MatMul", "gemm", ["Int8"], ["Half"]),
        line("softmax, masked", "kgen", ["Int64", "Float"], ["Half"]),
        "",
        "I/O Tensors:",
        line("no layer", "kgen", ["Float"], ["Float"]),
    ]
)


def test_each_line_is_a_layer_with_its_precision() -> None:
    layers = parse_layers(["Parsing node: x", BLOCK, "Total weights: 3 MiB"])
    assert [(layer.name, layer.type, layer.precision) for layer in layers] == [
        ("shapes", "shape_call", "none"),
        ("look-up", "kgen", "fp16"),
        ("/query/MatMul+/key/MatMul", "gemm", "int8"),
        ("softmax, masked", "kgen", "fp32"),
    ]
    assert layers[2].inputs == ("Int8",)
    assert layers[2].outputs == ("Half",)
    assert layers[2].tactic == "/query/MatMul+/key/MatMul_0xab"
    assert precision_counts(layers) == {"fp32": 1, "fp16": 1, "int8": 1}


def test_the_newest_block_counts_and_none_is_no_error() -> None:
    assert [
        layer.name for layer in parse_layers([BLOCK, "Layers:\n" + line("only", "gemm", ["Half"], [])])
    ] == ["only"]
    assert parse_layers(["nothing of the kind"]) == ()
    assert layers_path(Path("a/model.engine")) == Path("a/model.engine.layers.json")


def layer(kind: str, precision: str) -> Layer:
    return Layer(name="x", type=kind, precision=precision, inputs=("Int8",), outputs=(), tactic="")


@pytest.mark.parametrize(
    ("precision", "layers", "reason"),
    [
        ("fp32", [("gemm", "fp32"), ("shape_call", "none")], None),
        ("fp32", [("gemm", "fp32"), ("kgen", "fp16")], "1 layers compute in fp16, unasked"),
        ("fp16", [("gemm", "fp16"), ("kgen", "fp32")], None),
        ("fp16", [("gemm", "fp16"), ("correlation", "fp32")], "products compute in fp32"),
        ("fp16", [("kgen", "fp32")], "no layer computes in fp16"),
        ("int8", [("gemm", "int8"), ("gemm", "fp32")], None),
        ("int8", [("kgen", "int8"), ("gemm", "fp32")], "no product computes in int8"),
        ("int8-fp16", [("gemm", "int8"), ("kgen", "fp16"), ("kgen", "fp32")], None),
        (
            "int8-fp16",
            [("gemm", "int8"), ("runtime_fusion", "fp32"), ("kgen", "fp16")],
            "products compute in fp32",
        ),
        ("int8-fp16", [("gemm", "int8"), ("kgen", "fp32")], "no layer computes in fp16"),
        ("fp32", [], "told nothing"),
    ],
)
def test_layers_show_a_precision_or_what_they_lack(
    precision: str, layers: list[tuple[str, str]], reason: str | None
) -> None:
    found = what_is_missing([layer(*item) for item in layers], precision)
    assert (found is None) == (reason is None), found
    assert reason is None or reason in str(found)


def test_layers_come_back_from_their_file(tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    layers = parse_layers([BLOCK])
    layers_path(engine).write_text(json.dumps({"layers": [item.to_dict() for item in layers]}))
    assert read_layers(engine) == layers
    layers_path(engine).write_text('{"layers": [{"name": "x"}]}')
    with pytest.raises(VerificationError, match="missing or damaged"):
        read_layers(engine)
