"""What TensorRT's own parser says of a graph that it does not take, node by node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from pocketformer.runtime.errors import ExportError
from pocketformer.runtime.tensorrt.library import Library, Log

_SHOWN = 5


@dataclass(frozen=True)
class Complaint:
    """One node that the parser does not take.

    ``index`` is its number in the graph, -1 where the graph is refused as a whole; ``node`` its name and ``operator``
    its type as the parser gives them, empty where it gives none; ``reason`` is the parser's own.
    """

    index: int
    node: str
    operator: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class RejectedGraphError(ExportError):
    """The parser takes a graph not; ``complaints`` are about each node that it does not take."""

    def __init__(self, message: str, complaints: Sequence[Complaint], *, hint: Optional[str] = None) -> None:
        super().__init__(message, hint=hint)
        self.complaints = tuple(complaints)


def ask_parser(data: bytes, library: Library) -> tuple[Complaint, ...]:
    """What the parser complains of in the bytes of an ONNX file; empty when it takes the whole graph."""
    log = Log(library)
    builder = library.module.Builder(log.logger)
    network = library.network(builder)
    parser = library.module.OnnxParser(network, log.logger)
    if parser.supports_model_v2(data):
        return ()
    found = []
    for number in range(parser.num_errors):
        error = parser.get_error(number)
        reason = _reason(str(error.desc()))
        found.append(Complaint(int(error.node()), str(error.node_name()), str(error.node_operator()), reason))
    return tuple(found) or (Complaint(-1, "", "", log.last_error("the parser gives no reason")),)


def rejection(library: Library, complaints: Sequence[Complaint]) -> RejectedGraphError:
    """The error that names the first nodes of ``complaints``."""
    lines = [
        f"{c.node or c.index} ({c.operator}): {c.reason}" if c.operator else c.reason for c in complaints
    ]
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return RejectedGraphError(
        f"{library.name} {library.version} rejects {len(complaints)} nodes of the graph:\n"
        + "\n".join([*lines[:_SHOWN], *more]),
        complaints,
        hint="Change the model, or try the other exporter.",
    )


def _reason(text: str) -> str:
    """The parser's words in one line, without what follows from there being no GPU."""
    line = " ".join(re.split(r"\[checkMacros|Error Code 1: Cuda", text)[0].split())
    # The failed assertion of an importer that refuses whatever it is given.
    return "the parser takes no such operator" if line in ("false", "") else line
