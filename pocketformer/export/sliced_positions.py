"""Read position embeddings as the first rows of their table, not one by one.

An encoder without padding on the left adds the embeddings of positions 0, 1, ... Exporters write that as a look-up,
``Gather(table, Slice(0 .. P, length))``, with three more operators for the length. Here it becomes
``Slice(table, length)``, which is a copy of whole rows, and lets a quantized table be expanded once, when a graph is
loaded, instead of in every call. On a short text these operators are some percent of the whole call.

Models that count positions from the padding (RoBERTa) compute indices in another way and stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pocketformer.export.graph_file import load_graph, save_graph
from pocketformer.export.parity import DEFAULT_TOLERANCE, check_rewrite
from pocketformer.runtime.results import StepResult

_INDEX_AS_SHAPE = 15  # opset from which Shape gives a part of the shape by itself


def slice_positions(
    onnx_path: Path, output: Path, *, tolerance: float = DEFAULT_TOLERANCE
) -> StepResult[Path] | None:
    """Write ``onnx_path`` with sliced position tables; None, and no file, when it looks up none by such indices.

    Metrics: ``tables`` and ``max_abs_difference`` of the logits. Raises ``ParityError`` when that is above
    ``tolerance``.
    """
    model = load_graph(onnx_path)
    count = _Rewriter(model).run()
    if count == 0:
        return None
    save_graph(model, output)
    difference = check_rewrite(
        onnx_path,
        output,
        tolerance=tolerance,
        what="slicing the position embeddings",
        hint="Use the graph as it is, and report this model's family.",
    )
    return StepResult(output=output, metrics={"tables": float(count), "max_abs_difference": difference})


class _Rewriter:
    """Replaces the look-ups of one graph in place."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.graph = model.graph
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.producer = {name: node for node in self.graph.node for name in node.output if name}
        self.tables = {item.name: item for item in self.graph.initializer}
        self.constants = {
            node.output[0]: numpy_helper.to_array(node.attribute[0].t)
            for node in self.graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }

    def run(self) -> int:
        """How many look-ups were replaced."""
        found = [node for node in self.graph.node if self._length_of(node) is not None]
        for node in found:
            self._replace(node)
        self._drop_unread()
        return len(found)

    def _length_of(self, node: Any) -> str | None:
        """The tensor [1] that says how many rows a look-up takes from the first on; None: it takes others."""
        if node.op_type != "Gather" or any(a.name == "axis" and a.i != 0 for a in node.attribute):
            return None
        table, cut = self.tables.get(node.input[0]), self.producer.get(node.input[1])
        if (
            table is None
            or len(table.dims) != 2
            or cut is None
            or cut.op_type != "Slice"
            or len(cut.input) < 4
        ):
            return None
        places = self._value(cut.input[0])
        counted = places is not None and np.array_equal(places, np.arange(places.size)[None])
        starts, axes = self._value(cut.input[1]), self._value(cut.input[3])
        steps = self._value(cut.input[4]) if len(cut.input) > 4 else np.array([1])
        plain = all(
            value is not None and value.tolist() == wanted
            for value, wanted in ((starts, [0]), (axes, [1]), (steps, [1]))
        )
        fits = places is not None and places.size <= table.dims[0]
        return str(cut.input[2]) if counted and plain and fits else None

    def _replace(self, node: Any) -> None:
        from onnx import helper

        length = self._length_of(node)
        name = node.output[0]
        made = []
        if (axis := self._axis_of_shape(length)) is not None and self.opset >= _INDEX_AS_SHAPE:
            source, index = axis
            made.append(helper.make_node("Shape", [source], [f"{name}_length"], start=index, end=index + 1))
            length = f"{name}_length"
        bounds = [f"{name}_start", f"{name}_axis"]
        made += [_constant(bound) for bound in bounds]
        made.append(
            helper.make_node(
                "Slice", [node.input[0], bounds[0], length, bounds[1]], [name], name=f"{name}_rows"
            )
        )
        place = next(i for i, other in enumerate(self.graph.node) if other is node)
        del self.graph.node[place]
        for offset, new in enumerate(made):
            self.graph.node.insert(place + offset, new)

    def _axis_of_shape(self, length: str | None) -> tuple[str, int] | None:
        """The tensor and the axis whose size ``length`` is, when it is Unsqueeze(Gather(Shape(tensor), axis))."""
        widened = self.producer.get(length or "")
        picked = self.producer.get(widened.input[0]) if widened is not None else None
        shape = self.producer.get(picked.input[0]) if picked is not None else None
        if widened is None or picked is None or shape is None:
            return None
        index = self._value(picked.input[1]) if len(picked.input) > 1 else None
        kinds = (widened.op_type, picked.op_type, shape.op_type)
        if kinds != ("Unsqueeze", "Gather", "Shape") or index is None or index.size != 1:
            return None
        first = next((a.i for a in shape.attribute if a.name == "start"), 0)
        axis = int(index.reshape(()))
        return (str(shape.input[0]), first + axis) if axis >= 0 and first >= 0 else None

    def _value(self, name: str) -> Any:
        from onnx import numpy_helper

        if name in self.constants:
            return self.constants[name]
        item = self.tables.get(name)
        return None if item is None else numpy_helper.to_array(item)

    def _drop_unread(self) -> None:
        """Take out what nothing reads any more, from the end on."""
        outputs = {item.name for item in self.graph.output}
        while True:
            read = outputs | {name for node in self.graph.node for name in node.input}
            unread = [node for node in self.graph.node if not set(node.output) & read]
            if not unread:
                return
            for node in unread:
                self.graph.node.remove(node)


def _constant(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_node(
        "Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT64, [1], [0])
    )
