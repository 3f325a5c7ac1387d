"""What the builder made of a graph: the ``Layers:`` block of a verbose build log, read into plain objects.

An engine cannot be inspected without its GPU, so the log is the only place where layers, their types and the
precision of what goes in and out are told. With DETAILED profiling verbosity one line of the block is one layer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketformer.runtime.errors import VerificationError

_BLOCK = "Layers:"
_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), StreamId"
)
_DATATYPE = re.compile(r"Datatype: (\w+)")
# The library's names for what an engine computes in.
_PRECISIONS = {"Float": "fp32", "Half": "fp16", "Int8": "int8", "BFloat16": "bf16", "FP8": "fp8"}
COUNTED = ("fp32", "fp16", "int8")
# The library's names for layers that multiply: alone, as a convolution, or attention fused into one.
_PRODUCTS = ("gemm", "correlation", "runtime_fusion")
# What products may compute in. Those between activations are not quantized.
_ALLOWED = {
    "fp32": {"fp32"},
    "fp16": {"fp16"},
    "int8": {"int8", "fp32"},
    "int8-fp16": {"int8", "fp16"},
}


@dataclass(frozen=True)
class Layer:
    """One layer of an engine, often many nodes of the graph fused into one kernel.

    ``type`` is the library's name for its kind ("gemm", "kgen"); ``precision`` is that of the data it reads, or
    writes where it reads only integers, such as "fp16", and "none" for shapes and indices. ``inputs`` and
    ``outputs`` are the element types as the library names them.
    """

    name: str
    type: str
    precision: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tactic: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def layers_path(engine: Path) -> Path:
    """Where the layers of ``engine`` are written down."""
    return engine.with_name(engine.name + ".layers.json")


def parse_layers(log: Iterable[str]) -> tuple[Layer, ...]:
    """The layers of the last ``Layers:`` block among the messages of a build log; empty when there is none."""
    block: list[str] = []
    for message in log:
        if message.lstrip().startswith(_BLOCK):
            # It ends with an empty line; inputs, outputs and the engine's own properties follow.
            block = message.lstrip()[len(_BLOCK) :].strip().split("\n\n")[0].splitlines()
    found = (_LAYER.match(line) for line in block)
    return tuple(_layer(match) for match in found if match)


def precision_counts(layers: Sequence[Layer]) -> dict[str, int]:
    """How many layers compute in each of ``COUNTED``."""
    return {name: sum(layer.precision == name for layer in layers) for name in COUNTED}


def what_is_missing(layers: Sequence[Layer], precision: str) -> str | None:
    """Why ``layers`` do not show an engine of ``precision``, such as "int8-fp16"; None when they do.

    They do when each part of it computes somewhere, int8 in a product; when no product computes in a wider type than
    asked for; and when nothing computes in a narrower one.
    """
    if not layers:
        return "the builder told nothing of its layers"
    wanted = precision.split("-")
    counts = precision_counts(layers)
    products = {layer.precision for layer in layers if layer.type in _PRODUCTS} - {"none"}
    for name in wanted:
        if not counts[name] or (name == "int8" and name not in products):
            return f"no {'product' if name == 'int8' else 'layer'} computes in {name}"
    if products - _ALLOWED[precision]:
        return f"products compute in {', '.join(sorted(products - _ALLOWED[precision]))}"
    unasked = [name for name in ("fp16", "int8") if counts[name] and name not in wanted]
    return f"{counts[unasked[0]]} layers compute in {unasked[0]}, unasked" if unasked else None


def read_layers(engine: Path) -> tuple[Layer, ...]:
    """The layers that stand written down beside ``engine``; ``VerificationError`` when they are missing or damaged."""
    path = layers_path(engine)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["layers"]
        return tuple(
            Layer(**item | {"inputs": tuple(item["inputs"]), "outputs": tuple(item["outputs"])})
            for item in values
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerificationError(
            f"{path} is missing or damaged: {error}", hint="Build the engine again; its layers come with it."
        ) from error


def _layer(match: re.Match[str]) -> Layer:
    # Shapes have brackets of their own: the sections are told apart by what follows them.
    inputs = tuple(_DATATYPE.findall(match["inputs"]))
    outputs = tuple(_DATATYPE.findall(match["outputs"]))
    known = [_PRECISIONS[name] for name in (*inputs, *outputs) if name in _PRECISIONS]
    return Layer(
        name=match["name"],
        type=match["type"],
        precision=known[0] if known else "none",
        inputs=inputs,
        outputs=outputs,
        tactic=match["tactic"],
    )
