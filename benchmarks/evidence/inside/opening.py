"""Seconds that onnxruntime takes to open each graph, by turns, as JSON: ``python opening.py ROUNDS GRAPH GRAPH``."""

import json
import sys
import time
from pathlib import Path

from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.manifest import SessionSettings

if __name__ == "__main__":
    settings = SessionSettings(intra_op_threads=1, spinning=False)
    graphs = [Path(name) for name in sys.argv[2:]]
    seconds = [[] for _ in graphs]
    for _ in range(int(sys.argv[1]) + 1):
        for taken, graph in zip(seconds, graphs, strict=True):
            start = time.perf_counter()
            OnnxRuntimeEngine(graph, settings)
            taken.append(time.perf_counter() - start)
    print(json.dumps([taken[1:] for taken in seconds]))  # the first of each reads its file from the disk
