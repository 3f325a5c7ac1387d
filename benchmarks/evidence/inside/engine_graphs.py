"""``python engine_graphs.py NAME FOLDER [BERT4X768]``: an architecture's typed graph in every precision.

Writes ``fp32.onnx``, ``fp16.onnx``, ``int8.onnx`` and ``int8-fp16.onnx``. Prints one line of JSON: how far each is from
fp32 in onnxruntime on this CPU, on random inputs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from evidence.architectures import Size, make_feeds, write_architecture, write_pruned

import pocketformer
from pocketformer.compress.quantize.candidates import TENSORRT_CANDIDATE
from pocketformer.compress.quantize.portfolio import quantize_candidate
from pocketformer.export.tensorrt.typed_graph import agreement, write_typed_graph
from pocketformer.runtime.tensorrt.config import PRECISIONS

SIZES = {
    "small": Size(),
    # BERT's own width and vocabulary, four of its layers.
    "4x768": Size(hidden=768, layers=4, heads=12, inner=3072, vocabulary=30522),
}


def main(name: str, folder: Path, size: Size) -> None:
    plain = folder / "plain.onnx"
    if name == "pruned":
        write_pruned(name, plain, size)
    else:
        write_architecture(name, plain, size)
    feeds = make_feeds(plain, vocabulary=size.vocabulary)
    quantized = quantize_candidate(
        TENSORRT_CANDIDATE, graphs={"plain": plain}, output=folder / "quantized.onnx", calibration=feeds
    ).output
    distances = {}
    for precision in PRECISIONS:
        source = quantized if precision.startswith("int8") else plain
        typed = write_typed_graph(source, folder / f"{precision}.onnx", fp16=precision.endswith("fp16"))
        distances[precision] = agreement(plain, typed.output, feeds).max_abs_difference
    quantized.unlink()
    plain.unlink()
    print(json.dumps({"package": pocketformer.__file__, "max_abs_difference": distances}))


if __name__ == "__main__":
    main(sys.argv[1].split("-")[0], Path(sys.argv[2]), SIZES[sys.argv[3] if len(sys.argv) > 3 else "small"])
