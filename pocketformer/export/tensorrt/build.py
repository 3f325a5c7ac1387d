"""A typed ONNX file becomes an engine on this machine, after its parser was asked about every node."""

from __future__ import annotations

from pathlib import Path

from pocketformer.export.tensorrt.compatibility import require_compatible
from pocketformer.export.tensorrt.typed_graph import graph_precision
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.results import StepResult
from pocketformer.runtime.tensorrt import build
from pocketformer.runtime.tensorrt.config import EngineConfig
from pocketformer.runtime.tensorrt.library import Library, load_library
from pocketformer.runtime.tensorrt.progress import OnProgress


def build_engine(
    graph: Path,
    output: Path,
    config: EngineConfig,
    *,
    library: Library | None = None,
    on_progress: OnProgress | None = None,
) -> StepResult[Path]:
    """``runtime.tensorrt.build`` of the typed graph, whose precision is read from it.

    Raises as that does; an ``ExportError`` names every node that the parser rejects, with what to change.
    """
    library = library or load_library()
    if not config.compute_capabilities:
        raise InputError(
            "an engine is built for at least one compute capability", hint='Name one, such as "8.9".'
        )
    precision = graph_precision(graph)
    require_compatible(graph, library)
    return build.build_engine(
        graph, output, config, precision=precision, library=library, on_progress=on_progress
    )
