"""Where weights are 2:4 sparse: in every four along the dimension that a product sums over, at least two are zero.

Tensor cores since Ampere skip such zeros, where a builder takes a kernel that does (Mishra et al., "Accelerating Sparse
Deep Neural Networks", 2021, arxiv.org/abs/2104.08378). It has to hold for the whole weight: one group with three
numbers makes a layer dense. Nothing is pruned here; this looks and tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.export.graph_file import load_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUP, KEPT = 4, 2
_SHOWN = 5
_PRODUCTS = ("MatMul", "Gemm", "Conv")
# What may stand between a stored weight and the product that reads it, and keeps zeros zero.
_BETWEEN = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Transpose")


@dataclass(frozen=True)
class ProductSparsity:
    """One product with constant weights.

    ``node`` is its name, or its first output where it has none; ``shape`` of the weight as the product reads it;
    ``groups`` how many fours lie along the dimension that is summed over, ``sparse_groups`` those with at least two
    zeros. ``groups`` is 0 where that dimension is no multiple of four.
    """

    node: str
    operator: str
    shape: tuple[int, ...]
    groups: int
    sparse_groups: int

    @property
    def is_sparse(self) -> bool:
        """Whether all of the weight is 2:4."""
        return self.groups > 0 and self.sparse_groups == self.groups

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "is_2_4": self.is_sparse}


def count_groups(weight: NDArray[Any], axis: int) -> tuple[int, int]:
    """How many fours lie along ``axis`` of ``weight``, and how many of them have at least two zeros.

    (0, 0) where the axis is no multiple of four.
    """
    import numpy as np

    along = np.moveaxis(weight, axis, -1)
    if along.shape[-1] % GROUP:
        return 0, 0
    numbers = np.count_nonzero(along.reshape(-1, GROUP), axis=1)
    return int(numbers.size), int((numbers <= KEPT).sum())


def find_sparsity(graph: Path) -> tuple[ProductSparsity, ...]:
    """Every product of the ONNX file ``graph`` that has constant weights, in the graph's order.

    Raises ``ModelError`` when the file is no ONNX.
    """
    model = load_graph(graph)
    constants = {item.name: item for item in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "Constant":
            values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
            constants.update((node.output[0], value) for value in values)
    found = []
    for node in model.graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        for side in (1, 0):
            weight = _constant(node.input[side], constants, made_by)
            if weight is not None and weight.ndim >= 2:
                groups, sparse = count_groups(weight, _summed(node, side))
                shape = tuple(int(size) for size in weight.shape)
                found.append(
                    ProductSparsity(node.name or node.output[0], node.op_type, shape, groups, sparse)
                )
                break
    return tuple(found)


def sparsity_note(products: Sequence[ProductSparsity]) -> str:
    """What was found, in one sentence that names the first of the fewer."""
    sparse = [product.node for product in products if product.is_sparse]
    dense = [product.node for product in products if not product.is_sparse]
    of = f"{len(sparse)} of {len(products)} products with constant weights are 2:4 sparse"
    if not sparse:
        return f"{of}: letting the builder skip zeros changes nothing"
    if not dense:
        return of
    fewer, which = (sparse, "these are") if len(sparse) <= len(dense) else (dense, "these are not")
    more = f" and {len(fewer) - _SHOWN} more" if len(fewer) > _SHOWN else ""
    return f"{of}; {which}: {', '.join(fewer[:_SHOWN])}{more}"


def _summed(node: Any, side: int) -> int:
    """The axis of the constant on this ``side`` of a product that the product sums over."""
    if node.op_type == "Conv":
        return 1  # input channels, at every place of the kernel
    if node.op_type == "Gemm":
        wanted = "transB" if side == 1 else "transA"
        turned = any(attribute.name == wanted and attribute.i for attribute in node.attribute)
        return (1 if turned else 0) if side == 1 else (0 if turned else 1)
    return -2 if side == 1 else -1


def _constant(name: str, constants: Mapping[str, Any], made_by: Mapping[str, Any]) -> NDArray[Any] | None:
    """The values of a stored weight as a product reads them, but for their scale; None for an activation."""
    import numpy as np
    from onnx import numpy_helper

    if name in constants:
        return np.asarray(numpy_helper.to_array(constants[name]))
    node = made_by.get(name)
    if node is None or node.op_type not in _BETWEEN:
        return None
    values = _constant(node.input[0], constants, made_by)
    if values is None or node.op_type != "Transpose":
        return values
    order = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
    return values.transpose(order)
