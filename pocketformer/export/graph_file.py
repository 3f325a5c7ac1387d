"""Read and write ONNX files so that what is shipped is one small, portable, private file.

Exporters leave things behind that a bundle must not carry: source paths of the machine that exported
(``metadata_props``, ``doc_string``), shapes that later rewrites make wrong (``value_info``), and imports of
operator domains that no node uses, which an older onnxruntime on a device refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.runtime.errors import ExportError, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST_OPSET = 20
LARGEST_IR_VERSION = 10
_SMALLEST_IR_VERSION = 8


def load_graph(path: Path) -> Any:
    """The ``onnx.ModelProto`` of ``path``; ``ModelError`` when the file is missing or is not ONNX."""
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


def save_graph(model: Any, path: Path) -> Path:
    """Tidy ``model`` in place (see ``tidy_graph``) and write it as one file without external data."""
    import onnx

    tidy_graph(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path), save_as_external_data=False)
    return path


def tidy_graph(model: Any) -> None:
    """Drop stale shapes, traces of the exporting machine and unused domains; set the lowest IR version.

    Raises ``ExportError`` when the graph needs a newer opset or IR version than bundles promise.
    """
    from onnx import helper

    del model.graph.value_info[:]
    del model.metadata_props[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    used = set()
    for node in all_nodes(model.graph):
        node.doc_string = ""
        del node.metadata_props[:]
        used.add(_domain(node.domain))
    for function in model.functions:
        function.doc_string = ""
        used.add(_domain(function.domain))
        used.update(_domain(node.domain) for node in function.node)
    imports = {_domain(item.domain): item.version for item in model.opset_import}
    # Functions that exporters inline leave their own domains behind as well.
    kept = {domain: version for domain, version in imports.items() if domain in used or domain == ""}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in kept.items())
    standard = [item for item in model.opset_import if item.domain == ""]
    model.ir_version = max(_SMALLEST_IR_VERSION, helper.find_min_ir_version_for(standard))
    if kept.get("", 0) > LARGEST_OPSET or model.ir_version > LARGEST_IR_VERSION:
        raise ExportError(
            f"the graph needs opset {kept.get('')} and IR version {model.ir_version}",
            hint=f"Bundles keep to opset <= {LARGEST_OPSET} and IR version <= {LARGEST_IR_VERSION}, "
            "so that devices with an older onnxruntime can read them. Export with a lower opset.",
        )


def all_nodes(graph: Any) -> Iterator[Any]:
    """Every node of ``graph`` and of the graphs inside its nodes (branches of If, bodies of Loop)."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)
            for inner in attribute.graphs:
                yield from all_nodes(inner)


def random_feeds(
    model: Any,
    batch: int,
    sequence: int,
    *,
    vocab_size: int | None = None,
    type_vocab_size: int = 1,
    seed: int = 0,
) -> Mapping[str, NDArray[np.int64]]:
    """Random inputs for a text graph: int64 [batch, sequence] by input name, padded on the right.

    The first row is full, the others hold between 1 and ``sequence`` tokens, so that the mask matters.
    ``vocab_size`` defaults to the rows of the table that ``input_ids`` looks up.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    size = vocab_size or vocabulary_rows(model)
    lengths = rng.integers(1, sequence + 1, size=batch)
    lengths[0] = sequence
    mask = (np.arange(sequence)[None, :] < lengths[:, None]).astype(np.int64)
    feeds = {
        "input_ids": rng.integers(0, size, size=(batch, sequence), dtype=np.int64) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, type_vocab_size, size=(batch, sequence), dtype=np.int64),
    }
    names = [item.name for item in model.graph.input]
    unknown = [name for name in names if name not in feeds]
    if unknown:
        raise ExportError(
            f"the graph wants the inputs {', '.join(unknown)}, which a text classifier does not have",
            hint="Export with the inputs input_ids, attention_mask and token_type_ids only.",
        )
    return {name: feeds[name] for name in names}


def vocabulary_rows(model: Any) -> int:
    """Rows of the table that ``input_ids`` looks up; ``ExportError`` when there is none."""
    tables = word_tables(model)
    if not tables:
        raise ExportError(
            "the graph has no table that input_ids looks up",
            hint="Export a text classifier with input_ids.",
        )
    return int(tables[0].dims[0])


def word_tables(model: Any) -> list[Any]:
    """Initializers of rank 2 that are looked up by ``input_ids``, also behind a Cast, in the graph's order.

    A table in codes has its scales and offsets beside it; an EmbedLayerNormalization names its position
    and type tables after the word table.
    """
    tables = {item.name: item for item in model.graph.initializer if len(item.dims) == 2}
    aliases = {"input_ids"}
    found: dict[str, Any] = {}
    for node in model.graph.node:
        if node.op_type in ("Cast", "Identity") and node.input[0] in aliases:
            aliases.update(node.output)
        elif any(name in aliases for name in node.input):
            found.update({name: tables[name] for name in node.input if name in tables})
    return list(found.values())


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
