"""A run's model before quantization against its teacher, in onnxruntime fp32: medians on 8 x 128, accuracy on test.

    fast_graph.py TEACHER RUN TEST.csv

The teacher is exported as it is; the run's graph is fused and narrowed as the run's own fp32 candidate is. Both are
timed in turns. The last line printed is a JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from pocketformer.compress.data import DataConfig, read_test
from pocketformer.compress.encoding import TextEncoding
from pocketformer.compress.models import label_names_of, load_classifier, structure_of
from pocketformer.export.first_position import compute_first_position_only
from pocketformer.export.fuse import fuse_for_onnxruntime
from pocketformer.export.onnx_export import export_onnx
from pocketformer.pipeline.bench import run_in_batches
from pocketformer.pipeline.graph_stages import default_exporter
from pocketformer.runtime.engine import OnnxRuntimeEngine, available_cores
from pocketformer.runtime.manifest import SessionSettings
from pocketformer.targets.measure import measure
from pocketformer.targets.workloads import WORKLOADS, build_feeds

_ROUNDS = 30
_MAX_LENGTH = 128


def main(teacher: Path, run: Path, test: Path) -> None:
    """Make both graphs, time and score them, print the figures."""
    pruned = _stage(run, "vocabulary") / "model"
    settings = SessionSettings(intra_op_threads=available_cores())
    names = label_names_of(teacher) or ()
    rows = read_test(DataConfig(train=test, test=test), names)
    labels = np.asarray(rows.labels)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        whole = export_onnx(
            load_classifier(teacher), teacher, work / "teacher.onnx", exporter=default_exporter()
        )
        model = load_classifier(pruned)
        fused = fuse_for_onnxruntime(
            _stage(run, "export") / "model.onnx",
            work / "fused.onnx",
            heads=[layer.heads for layer in structure_of(model).layers],
            hidden_size=int(model.config.hidden_size),
            fuse_embeddings=False,
        )
        narrowed = compute_first_position_only(fused.output, work / "narrowed.onnx")
        engines = {
            "teacher": (OnnxRuntimeEngine(whole.output, settings), TextEncoding(teacher, _MAX_LENGTH)),
            "result": (OnnxRuntimeEngine(narrowed.output, settings), TextEncoding(pruned, _MAX_LENGTH)),
        }
        workload = next(known for known in WORKLOADS if known.name == "8x128")
        encoded = {name: encoding.encode(rows.texts) for name, (_, encoding) in engines.items()}
        feeds = {name: build_feeds(workload, ids[:200])[0] for name, ids in encoded.items()}
        calls = {
            name: (lambda _, engine=engine, feed=feeds[name]: engine.run(feed))
            for name, (engine, _) in engines.items()
        }
        timed = measure(calls, {workload.name: [0]}, rounds=_ROUNDS)
        found: dict[str, float] = {
            "rows": len(labels),
            "rounds": _ROUNDS,
            "threads": settings.intra_op_threads,
        }
        for name, (engine, encoding) in engines.items():
            answers = run_in_batches(engine, encoded[name], encoding.pad_id).argmax(-1)
            found[f"{name}_accuracy"] = float((answers == labels).mean())
            found[f"{name}_ms"] = timed[name][workload.name].latency.p50
    print(json.dumps(found))


def _stage(run: Path, name: str) -> Path:
    return next(iter(sorted((run / "stages").glob(f"*-{name}"))))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
