"""Answers of a graph that takes text: ``python text_graph.py GRAPH TEXTS.jsonl``, a line of JSON each."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime_extensions import get_library_path

if __name__ == "__main__":
    options = ort.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    names = ["input_ids", "logits", "label", "in_domain"]
    with Path(sys.argv[2]).open(encoding="ascii") as lines:
        for line in lines:
            feeds = {"text": np.array([json.loads(line)["text"]], dtype=object)}
            ids, logits, label, inside = session.run(names, feeds)
            row = {"input_ids": ids[0].tolist(), "logits": logits[0].tolist(), "label": str(label[0])}
            print(json.dumps({**row, "in_domain": bool(inside[0])}))
