"""Runs in the base install: prints as JSON which training libraries are there (none may be), and versions."""

import importlib.util
import json
from importlib.metadata import version

TRAINING = (
    "torch",
    "transformers",
    "onnx",
    "optimum",
    "sklearn",
    "pandas",
    "accelerate",
    "neural_compressor",
)

if __name__ == "__main__":
    import pocketformer

    print(
        json.dumps(
            {
                "training_libraries": [name for name in TRAINING if importlib.util.find_spec(name)],
                "pocketformer": pocketformer.__file__,
                "onnxruntime": version("onnxruntime"),
                "tokenizers": version("tokenizers"),
                "numpy": version("numpy"),
            }
        )
    )
