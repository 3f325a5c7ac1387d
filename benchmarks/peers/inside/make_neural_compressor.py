"""neural-compressor's static int8 (PyTorch 2 export, observers, calibration), written as ONNX with QDQ pairs.

Its own defaults: uint8 asymmetric activations, int8 weights per channel. It has no ONNX export of its own any more:
torch's writes the file, as Pocketformer's candidate of that name does, whose code this uses.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from job import job_of_command_line

from pocketformer.compress.models import load_classifier
from pocketformer.compress.quantize.config import NeuralCompressorConfig
from pocketformer.compress.quantize.neural_compressor_static import quantize_neural_compressor
from pocketformer.export.onnx_export import export_module
from pocketformer.pipeline.bench import feeds_of_rows

PACKAGES = ["neural-compressor", "onnx", "onnxruntime", "torch", "transformers"]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def main() -> None:
    job = job_of_command_line()
    torch.set_num_threads(job.threads)
    feeds = feeds_of_rows(job.token_ids(job.calibration), 0, _INPUTS)
    config = NeuralCompressorConfig(calibration_batches=len(feeds))
    output = job.output / "model.onnx"
    quantize_neural_compressor(load_classifier(job.teacher), output, config, feeds, export_module)
    how = {"config": "StaticQuantConfig", **asdict(config), "calibration_texts": len(job.calibration)}
    job.done(output, ships=[output], packages=PACKAGES, how=how)


if __name__ == "__main__":
    main()
