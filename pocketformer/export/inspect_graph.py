"""What is in an ONNX file: its operators, where its bytes are, and in which precision it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketformer.export.graph_file import all_nodes, load_graph, word_tables

# Operators that only a quantized graph has, and what their presence says.
_DYNAMIC = ("DynamicQuantizeLinear", "QAttention", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
_INTEGER = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QGemm", "QLinearConv")
_TABLE_LOOKUPS = ("Gather", "GatherBlockQuantized", "EmbedLayerNormalization", "QEmbedLayerNormalization")
_PRODUCTS = ("MatMul", "Gemm", "Attention", "QAttention", "MatMulNBits", *_INTEGER)


@dataclass(frozen=True)
class GraphSummary:
    """The anatomy of one ONNX file.

    ``bytes`` is the size of the file; ``initializer_bytes`` splits its weights into ``embeddings`` (tables
    that are looked up), ``matrices`` (factors of products) and ``other`` (biases, norms, constants);
    ``dtype_bytes`` splits the same bytes by element type, such as "int8". ``parameters`` counts stored
    elements, two to a byte where nibbles are packed. ``precision`` is a short name, such as "int8-dynamic".
    """

    bytes: int
    opset: int
    ir_version: int
    domains: tuple[str, ...]
    nodes: int
    operators: Mapping[str, int]
    initializer_bytes: Mapping[str, int]
    dtype_bytes: Mapping[str, int]
    parameters: int
    precision: str
    quantized: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def inspect_graph(path: Path) -> GraphSummary:
    """Read the ONNX file at ``path``; ``ModelError`` when it is missing or is not ONNX."""
    from onnx import TensorProto

    model = load_graph(path)
    nodes = list(all_nodes(model.graph))
    operators = Counter(node.op_type for node in nodes)
    folded = _packed_weights(model)
    packed = _packed_tables(nodes) | {name: group for name, (group, _) in folded.items()}
    kinds = _initializer_kinds(model) | dict.fromkeys(folded, "matrices")
    by_kind = {"embeddings": 0, "matrices": 0, "other": 0}
    by_type: Counter[str] = Counter()
    parameters = 0
    for item in model.graph.initializer:
        size = _tensor_bytes(item)
        by_kind[kinds.get(item.name, "other")] += size
        by_type[TensorProto.DataType.Name(item.data_type).lower()] += size
        parameters += _elements(item) * packed.get(item.name, 1)
    for node in nodes:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    by_kind["other"] += _tensor_bytes(attribute.t)
                    by_type[TensorProto.DataType.Name(attribute.t.data_type).lower()] += _tensor_bytes(
                        attribute.t
                    )
    products, tables = _product_precision(nodes, operators, by_type), _table_precision(model, nodes)
    if folded:
        products += f"-weights-{next(iter(folded.values()))[1]}-levels"
    same = tables is None or products.split("-")[0] == tables
    precision = products if same else f"{products}-embeddings-{tables}"
    standard = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    return GraphSummary(
        bytes=path.stat().st_size,
        opset=standard[0] if standard else 0,
        ir_version=model.ir_version,
        domains=tuple(sorted({node.domain or "ai.onnx" for node in nodes})),
        nodes=len(nodes),
        operators=dict(operators.most_common()),
        initializer_bytes=by_kind,
        dtype_bytes=dict(by_type.most_common()),
        parameters=parameters,
        precision=precision,
        quantized=precision not in ("fp32", "fp16"),
    )


def _product_precision(nodes: list[Any], operators: Mapping[str, int], by_type: Mapping[str, int]) -> str:
    """One name for how the graph's products compute."""
    if any(operators.get(name) for name in _DYNAMIC):
        name = "int8-dynamic"
    elif operators.get("QuantizeLinear"):
        name = "int8-qdq"
    elif any(operators.get(name) for name in _INTEGER):
        name = "int8"
    elif operators.get("MatMulNBits"):
        name = _packed_product_precision(nodes)
    else:
        name = "fp16" if by_type.get("float16", 0) > by_type.get("float", 0) else "fp32"
    return name


def _packed_product_precision(nodes: list[Any]) -> str:
    """What MatMulNBits computes in and how many bits its weights have, such as "int8-weights-int4"."""
    node = next(node for node in nodes if node.op_type == "MatMulNBits")
    settings = {attribute.name: attribute.i for attribute in node.attribute}
    # Level 4 quantizes activations to int8; the others compute in float.
    return f"{'int8' if settings.get('accuracy_level') == 4 else 'fp32'}-weights-int{settings.get('bits', 4)}"


def _table_precision(model: Any, nodes: list[Any]) -> str | None:
    """How the table that token ids look up is stored, such as "int4"; None when there is none."""
    from onnx import TensorProto

    packed = _packed_tables(nodes)
    tables = word_tables(model)
    if not tables:
        return None
    largest = max(tables, key=lambda item: _elements(item) * packed.get(item.name, 1))
    for node in nodes:
        if node.op_type == "GatherBlockQuantized" and node.input[0] == largest.name:
            return f"int{next((a.i for a in node.attribute if a.name == 'bits'), 4)}"
    name = TensorProto.DataType.Name(largest.data_type).lower()
    if largest.data_type == TensorProto.UINT8 and not _feeds_arithmetic(nodes, largest.name):
        return "codebook"
    return str({"float": "fp32", "float16": "fp16", "uint8": "int8"}.get(name, name))


def _feeds_arithmetic(nodes: list[Any], table: str) -> bool:
    """Whether what is looked up in ``table`` is used as numbers, not as indices into another table."""
    reached = {table}
    for node in nodes:
        if node.op_type in ("Gather", "Cast", "Identity") and node.input[0] in reached:
            reached.update(node.output)
    readers = [node for node in nodes if set(node.input) & reached and not set(node.output) & reached]
    return not all(node.op_type == "Gather" for node in readers)


def _initializer_kinds(model: Any) -> dict[str, str]:
    """``embeddings`` or ``matrices`` for initializers of rank 2 by the operator that reads them."""
    tables = {item.name for item in model.graph.initializer if len(item.dims) >= 2}
    kinds: dict[str, str] = {}
    for node in all_nodes(model.graph):
        readers = node.op_type
        for index, name in enumerate(node.input):
            if name not in tables:
                continue
            if readers in _TABLE_LOOKUPS and (index != 1 or readers != "Gather"):
                kinds[name] = "embeddings"
            elif readers in _PRODUCTS or readers == "DequantizeLinear":
                kinds.setdefault(name, "matrices")
    return kinds


def _packed_weights(model: Any) -> dict[str, tuple[int, int]]:
    """Weights of products that are looked up in a table when the graph is loaded: how many share a byte, their levels.

    By the name of the initializer that holds the bytes.
    """
    sizes = {item.name: list(item.dims) for item in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        origin = made.get(node.input[1])
        while origin is not None and origin.op_type in ("Slice", "Reshape"):
            origin = made.get(origin.input[0])
        if origin is None or origin.op_type != "Gather" or len(sizes.get(origin.input[0], ())) != 2:
            continue
        cast = made.get(origin.input[1])
        if cast is not None and cast.input[0] in sizes:
            codewords, group = sizes[origin.input[0]]
            found[cast.input[0]] = (group, round(codewords ** (1 / group)))
    return found


def _packed_tables(nodes: list[Any]) -> dict[str, int]:
    """How many elements one stored byte of a table holds, for tables that pack several."""
    packed = {}
    for node in nodes:
        if node.op_type == "GatherBlockQuantized":
            bits = next((attribute.i for attribute in node.attribute if attribute.name == "bits"), 4)
            packed[node.input[0]] = max(1, 8 // int(bits))
    return packed


def _elements(tensor: Any) -> int:
    count = 1
    for size in tensor.dims:
        count *= int(size)
    return count


def _tensor_bytes(tensor: Any) -> int:
    """Bytes that the tensor's elements take in the file."""
    if tensor.raw_data:
        return len(tensor.raw_data)
    from onnx import helper

    return _elements(tensor) * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
