"""Runs on the device under test, with numpy and onnxruntime alone: ``python run_graph.py exact|usual FILE...``.

Files stand in threes: GRAPH.onnx INPUTS.npz OUTPUTS.npz. Arrays are named ``NUMBER/TENSOR``: one number for each
batch of inputs. ``exact`` asks onnxruntime for integer products that cannot overflow on x86 without VNNI; everywhere
else they never do.
"""

import sys

import numpy as np
import onnxruntime as ort

if __name__ == "__main__":
    exact = sys.argv[1] == "exact"
    for graph, inputs, outputs in zip(sys.argv[2::3], sys.argv[3::3], sys.argv[4::3]):  # noqa: B905 - for Python 3.9
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_outputs()]
        batches = {}
        with np.load(inputs) as arrays:
            for key in arrays.files:
                number, _, name = key.partition("/")
                batches.setdefault(number, {})[name] = arrays[key]
        answers = {
            number + "/" + name: value
            for number, batch in batches.items()
            for name, value in zip(names, session.run(names, batch))  # noqa: B905 - for Python 3.9
        }
        np.savez(outputs, **answers)
