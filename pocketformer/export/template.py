"""One exported graph from which graphs of any heads and feed-forward width are made, without exporting again.

A latency table needs dozens of graphs that differ in nothing but widths. Exporting, fusing and quantizing each would
take minutes. So the pipeline makes one graph of a student whose widths are unmistakable numbers (primes that nothing
else in the graph is), by the very steps by which a deployable graph is made, and every graph of the table is that one
with these numbers replaced: in the shapes of the weights, in their scales and zero points, in the numbers of heads
and in the shapes that tensors are brought into. Whatever operators exporters, fusers and quantizers put in, and in
whatever order, the table times these and no imitation. What the weights hold is repeated or cut, and means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketformer.export.graph_file import load_graph, save_graph
from pocketformer.runtime.errors import ExportError, InputError

# More than one head of any model known, and far from the small numbers that axes and constants are.
_HEADS = (23, 29, 31, 37, 41, 43, 47, 53)
_WIDTHS = (1511, 1523, 1531, 1543, 1549, 1553, 1559, 1567, 1571, 1579)
_PARTS = (1, 3)  # query, key and value stand alone or, fused, side by side
_LONGEST_SHAPE = 8  # elements of a constant that can be the shape of a tensor


@dataclass(frozen=True)
class Widths:
    """Attention heads and feed-forward neurons of a layer."""

    heads: int
    ffn: int


def unmistakable_widths(count: int, *, head_size: int, taken: Iterable[int]) -> tuple[Widths, ...]:
    """``count`` pairs of widths none of whose numbers is another's, or among ``taken``, the graph's other sizes.

    Raises ``InputError`` when there are not as many.
    """
    used = {int(size) for size in taken}
    found: list[Widths] = []
    widths = iter(_WIDTHS)
    for heads in _HEADS:
        ours = _numbers(heads, head_size)
        ffn = next((width for width in widths if width not in used | ours), None)
        if ffn is None or len(found) == count:
            break
        if ours & used:
            continue
        used |= ours | {ffn}
        found.append(Widths(heads, ffn))
    if len(found) < count:
        raise InputError(f"there are no {count} widths that a graph with sizes {sorted(used)} does not have")
    return tuple(found)


def resize_graph(template: Path, output: Path, changes: Mapping[Widths, Widths], *, head_size: int) -> Path:
    """Write ``template`` with its layers of the widths that are keys of ``changes`` made as wide as the values say.

    Raises ``ExportError`` when a key is not found in the graph: it was exported from something else.
    """
    model = load_graph(template)
    numbers: dict[int, int] = {}
    for old, new in changes.items():
        numbers |= {
            part * old.heads * size: part * new.heads * size for size in (1, head_size) for part in _PARTS
        }
        numbers[old.ffn] = new.ffn
    found = _resize(model, numbers)
    missing = [old for old in changes if not {old.ffn, old.heads} <= found]
    if missing:
        raise ExportError(
            f"{template} has no layers of the widths {missing}",
            hint="Resize only graphs that were exported with unmistakable widths.",
        )
    return save_graph(model, output)


def _numbers(heads: int, head_size: int) -> set[int]:
    return {part * heads * size for size in (1, head_size) for part in _PARTS}


def _resize(model: Any, numbers: Mapping[int, int]) -> set[int]:
    """Replace the numbers everywhere; those that were found."""
    import numpy as np

    found: set[int] = set()
    for tensor in model.graph.initializer:
        found |= _resize_tensor(tensor, numbers)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "num_heads" and attribute.i in numbers:
                found.add(attribute.i)
                attribute.i = numbers[attribute.i]
            elif node.op_type == "Constant" and attribute.name == "value":
                found |= _resize_tensor(attribute.t, numbers)
            elif node.op_type == "Constant" and attribute.name == "value_ints":
                values = np.asarray(attribute.ints)
                found |= set(values.tolist()) & set(numbers)
                del attribute.ints[:]
                attribute.ints.extend(numbers.get(int(v), int(v)) for v in values)
            elif node.op_type == "Constant" and attribute.name == "value_int" and attribute.i in numbers:
                found.add(attribute.i)
                attribute.i = numbers[attribute.i]
    return found


def _resize_tensor(tensor: Any, numbers: Mapping[int, int]) -> set[int]:
    import numpy as np
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    found = set(values.shape) & set(numbers)
    for axis, size in enumerate(values.shape):
        if size in numbers:
            values = values.take(np.arange(numbers[size]) % size, axis=axis)
    if values.dtype == np.int64 and values.size <= _LONGEST_SHAPE:
        within = set(values.flatten().tolist()) & set(numbers)
        if within:
            values = np.vectorize(lambda value: numbers.get(int(value), int(value)), otypes=[np.int64])(
                values
            )
        found |= within
    if found:
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
    return found
