"""What the builder made of a graph: the ``Layers:`` block of a verbose build log, read into plain objects.

An engine cannot be inspected without its GPU, so the log is the only place where layers, their types and the
precision of what goes in and out are told. With DETAILED profiling verbosity one line of the block is one layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_BLOCK = "Layers:"
_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), StreamId"
)
_DATATYPE = re.compile(r"Datatype: (\w+)")
# The library's names for what an engine computes in.
_PRECISIONS = {"Float": "fp32", "Half": "fp16", "Int8": "int8", "BFloat16": "bf16", "FP8": "fp8"}
COUNTED = ("fp32", "fp16", "int8")


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
