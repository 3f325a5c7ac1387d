"""``python engine_builds.py GRAPH.onnx FOLDER CAPABILITY...``: an engine of the typed graph for each GPU.

Writes ``smCAPABILITY.engine`` with its fingerprint and layers. Prints one line of JSON: which were built, why others
were not, and the most memory that this process took.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pocketformer
from pocketformer.export.tensorrt.build import build_engine
from pocketformer.runtime.errors import PocketformerError
from pocketformer.runtime.tensorrt.config import EngineConfig, Profile

# What every one of the small models takes.
PROFILE = Profile(batch=(1, 1, 8), sequence=(1, 32, 128))


def main(graph: Path, folder: Path, capabilities: list[str]) -> None:
    built, failed = [], {}
    for capability in capabilities:
        config = EngineConfig(compute_capabilities=(capability,), profile=PROFILE)
        try:
            build_engine(graph, folder / f"sm{capability}.engine", config)
            built.append(capability)
        except PocketformerError as error:
            failed[capability] = error.message
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    said = {"package": pocketformer.__file__, "built": built, "failed": failed, "peak_memory_mb": peak}
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
