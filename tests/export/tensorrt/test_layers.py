"""The build log's block of layers, as TensorRT-RTX 1.7.1 writes it; nothing here needs the library."""

from __future__ import annotations

from pathlib import Path

from pocketformer.export.tensorrt.layers import layers_path, parse_layers, precision_counts


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
