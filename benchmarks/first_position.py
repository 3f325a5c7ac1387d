"""What computing only the first position of the last layer saves, on the graph of a finished run.

    python benchmarks/first_position.py out/demo

Both graphs are fused and quantized alike and timed in turns on random ids of the model's vocabulary ("real" stands
for 8 to 32 of them). Printed for each workload: the time of the whole graph over that of the narrowed one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from pocketformer.compress.models import load_classifier, structure_of
from pocketformer.compress.quantize.portfolio import quantize_candidate
from pocketformer.export.first_position import compute_first_position_only
from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.runtime.engine import OnnxRuntimeEngine, available_cores
from pocketformer.runtime.manifest import SessionSettings
from pocketformer.targets.measure import measure
from pocketformer.targets.workloads import WORKLOADS, build_feeds, rounds_of

_CANDIDATE = "dynamic-fused-reduced-int4"
_LENGTHS = range(8, 33)


def main() -> None:
    """Make both graphs, time them, print the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="directory of a finished run")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    graph = _stage(options.run, "export") / "model.onnx"
    model = load_classifier(_stage(options.run, "vocabulary") / "model")
    settings = SessionSettings(intra_op_threads=available_cores())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        whole = fuse_for_onnxruntime(
            graph,
            work / "whole.onnx",
            heads=[layer.heads for layer in structure_of(model).layers],
            hidden_size=int(model.config.hidden_size),
            fuse_embeddings=False,
        ).output
        narrowed = compute_first_position_only(whole, work / "narrowed.onnx").output
        engines = {}
        for name, fused in (("whole", whole), ("narrowed", narrowed)):
            quantize_candidate(_CANDIDATE, graphs={"fused": fused}, output=work / f"{name}-int8.onnx")
            engines[name] = OnnxRuntimeEngine(work / f"{name}-int8.onnx", settings)
        rng = np.random.default_rng(0)
        rows = [rng.integers(5, model.config.vocab_size, size=length).tolist() for length in _LENGTHS]
        calls = {name: engine.run for name, engine in engines.items()}
        ratios = {}
        for workload in WORKLOADS:
            feeds = build_feeds(workload, rows)
            rounds = rounds_of(workload.name, options.rounds, len(feeds))
            timed = measure(calls, {workload.name: feeds}, rounds=rounds)
            p50 = {name: timings[workload.name].latency.p50 for name, timings in timed.items()}
            ratios[workload.name] = round(p50["whole"] / p50["narrowed"], 2)
    print(json.dumps(ratios))


def _stage(run: Path, name: str) -> Path:
    """The folder of the run's last stage of this name."""
    found = sorted((run / "stages").glob(f"*-{name}"))
    if not found:
        raise SystemExit(f"{run} has no stage {name}: give a finished run of compress or demo")
    return found[-1]


if __name__ == "__main__":
    main()
