"""What the quantizers need to know about a graph before they touch it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pocketformer.runtime.errors import AlreadyQuantizedError, ModelError

# Operators that stand only in graphs whose weights or activations are quantized already.
_QUANTIZED_OPERATORS = (
    "DynamicQuantizeLinear",
    "QuantizeLinear",
    "DequantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "QLinearMatMul",
    "QLinearConv",
    "QGemm",
    "QAttention",
    "QEmbedLayerNormalization",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "MatMulBnb4",
)


def require_unquantized(model: Any, path: Path) -> None:
    """Raise ``AlreadyQuantizedError`` when ``model`` (onnx.ModelProto, read from ``path``) is quantized.

    Tables quantized by this package's ``embeddings`` do not count: they may come before or after.
    """
    found = sorted({node.op_type for node in model.graph.node} & set(_QUANTIZED_OPERATORS))
    if found:
        raise AlreadyQuantizedError(
            f"{path} is quantized already: it holds {', '.join(found)}",
            hint="Quantize the fp32 graph that it was made from; `pocketformer export` writes one.",
        )


def load_unquantized(path: Path) -> Any:
    """The fp32 graph at ``path`` as onnx.ModelProto; ``ModelError`` when missing, damaged or quantized."""
    model = load(path)
    require_unquantized(model, path)
    return model


def load(path: Path) -> Any:
    """The graph at ``path`` as onnx.ModelProto, quantized or not; ``ModelError`` when it is no ONNX file."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise ModelError(f"there is no ONNX file at {path}", hint="Export the model first.") from error
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read as ONNX: {error}", hint="The file is damaged or is not ONNX."
        ) from error
    if not model.graph.node:
        raise ModelError(f"{path} holds no graph", hint="The file is damaged or is not ONNX.")
    return model


def save(model: Any, path: Path) -> Path:
    """Write ``model`` as one file, without shapes that rewriting made stale and without unused domains."""
    import onnx

    del model.graph.value_info[:]
    used = {"", *(node.domain for node in model.graph.node)}
    kept = [item for item in model.opset_import if item.domain in used]
    imports = [onnx.helper.make_opsetid(item.domain, item.version) for item in kept]
    if not any(item.domain == "com.microsoft" for item in imports) and "com.microsoft" in used:
        imports.append(onnx.helper.make_opsetid("com.microsoft", 1))
    del model.opset_import[:]
    model.opset_import.extend(imports)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path), save_as_external_data=False)
    return path


def put_in_place(graph: Any, node: Any, new: Sequence[Any]) -> None:
    """Replace ``node`` of ``graph`` by the nodes ``new``, where it stood."""
    place = next(i for i, other in enumerate(graph.node) if other is node)
    del graph.node[place]
    for offset, item in enumerate(new):
        graph.node.insert(place + offset, item)
