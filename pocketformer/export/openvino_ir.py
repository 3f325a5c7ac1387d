"""What is in OpenVINO's IR: an XML file of layers, and their constants in a ``.bin`` beside it. No OpenVINO is needed.

The format: docs.openvino.ai, "OpenVINO IR format", and "Available Operation Sets" for which release brought which.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketformer.runtime.errors import ModelError
from pocketformer.runtime.manifest import TensorSpec, graph_files

# The release that brought each operation set; what OpenVINO's API of today reads begins with opset8.
_RELEASES = {
    8: "2022.1",
    9: "2022.2",
    10: "2022.3",
    11: "2023.0",
    12: "2023.1",
    13: "2023.2",
    14: "2024.0",
    15: "2024.5",
}
_TYPES = {"I64": "int64", "I32": "int32", "FP32": "float32", "FP16": "float16"}
_FLOATS = {"f32": "fp32", "f16": "fp16"}


@dataclass(frozen=True)
class IrSummary:
    """The anatomy of one IR.

    ``bytes``: both files; ``dtype_bytes`` splits those of its constants by element type; ``parameters`` counts elements
    of constants of rank 2 and more. ``inputs`` and ``outputs`` are as manifests have them. ``minimum_version``: the
    release whose operation sets hold every layer, None for a set newer than any known here. ``precision`` is a short
    name such as "int8-static".
    """

    bytes: int
    nodes: int
    operators: Mapping[str, int]
    dtype_bytes: Mapping[str, int]
    parameters: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    minimum_version: str | None
    precision: str

    @property
    def quantized(self) -> bool:
        """Whether products are computed in integers."""
        return self.precision.startswith("int8")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"quantized": self.quantized}


def inspect_ir(path: Path) -> IrSummary:
    """Read the IR whose XML file is ``path``; ``ModelError`` when a file is missing or the XML is no IR."""
    try:
        root = ElementTree.parse(path).getroot()
        size = sum(part.stat().st_size for part in graph_files(path))
    except (OSError, ElementTree.ParseError) as error:
        raise ModelError(f"{path} cannot be read as OpenVINO IR: {error}", hint="Export it again.") from error
    layers = root.findall("./layers/layer")
    if root.tag != "net" or not layers:
        raise ModelError(f"{path} is no OpenVINO IR", hint="Its root is <net>, with layers in it.")
    operators = Counter(layer.get("type", "") for layer in layers)
    by_type: Counter[str] = Counter()
    parameters = 0
    for data in (data for layer in layers if layer.get("type") == "Const" for data in layer.findall("data")):
        by_type[data.get("element_type", "")] += int(data.get("size", 0))
        shape = [int(axis) for axis in data.get("shape", "").split(",") if axis.strip()]
        parameters += _product(shape) if len(shape) > 1 else 0
    return IrSummary(
        bytes=size,
        nodes=len(layers),
        operators=dict(operators.most_common()),
        dtype_bytes=dict(by_type.most_common()),
        parameters=parameters,
        inputs=tuple(_input(layer) for layer in layers if layer.get("type") == "Parameter"),
        outputs=tuple(_output(layer) for layer in layers if layer.get("type") == "Result"),
        minimum_version=_minimum_version(layers),
        precision=_precision(operators, by_type),
    )


def _precision(operators: Mapping[str, int], by_type: Mapping[str, int]) -> str:
    if operators.get("FakeQuantize"):  # how IR writes the rounding of activations
        return "int8-static"
    stored = max(_FLOATS, key=lambda name: by_type.get(name, 0))
    return "fp32" if stored == "f32" else f"fp32-weights-{_FLOATS[stored]}"


def _minimum_version(layers: list[ElementTree.Element]) -> str | None:
    sets = [layer.get("version", "").removeprefix("opset") for layer in layers]
    newest = max((int(number) for number in sets if number.isdigit()), default=0)
    return _RELEASES.get(max(newest, min(_RELEASES)))


def _input(layer: ElementTree.Element) -> TensorSpec:
    port = layer.find("./output/port")
    names = "" if port is None else port.get("names", "")
    return TensorSpec(name=names.split(",")[0], dtype=_dtype(port), axes=("batch", "sequence"))


def _output(layer: ElementTree.Element) -> TensorSpec:
    names = layer.get("output_names", "") or layer.get("name", "").split("/")[0]
    return TensorSpec(
        name=names.split(",")[0], dtype=_dtype(layer.find("./input/port")), axes=("batch", "label")
    )


def _dtype(port: ElementTree.Element | None) -> str:
    precision = "" if port is None else port.get("precision", "")
    return _TYPES.get(precision, precision.lower())


def _product(shape: list[int]) -> int:
    count = 1
    for axis in shape:
        count *= axis
    return count
