"""Optimum's own routes to ONNX: ``settings.route`` is "fp32", "O2", "int8" or "int8-per-channel".

As its documentation has them: ``ORTModel...from_pretrained(export=True)``, ``ORTOptimizer`` with
``AutoOptimizationConfig``, ``ORTQuantizer`` with the dynamic ``AutoQuantizationConfig`` of this processor's kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from job import Job, has_avx512, has_vnni, job_of_command_line

PACKAGES = ["optimum", "optimum-onnx", "onnx", "onnxruntime", "torch", "transformers"]


def export(job: Job) -> Path:
    """The teacher as an fp32 ONNX file with free batch and sequence axes; the folder of it."""
    from optimum.onnxruntime import ORTModelForSequenceClassification

    folder = job.output / "exported"
    model = ORTModelForSequenceClassification.from_pretrained(job.teacher, export=True)
    model.save_pretrained(folder)
    return folder


def optimize(folder: Path, output: Path) -> dict[str, Any]:
    """Level O2: basic and extended optimizations with the transformer fusions."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTOptimizer
    from optimum.onnxruntime.configuration import AutoOptimizationConfig

    model = ORTModelForSequenceClassification.from_pretrained(folder)
    optimizer = ORTOptimizer.from_pretrained(model)
    optimizer.optimize(save_dir=output, optimization_config=AutoOptimizationConfig.O2())
    return {"optimization": "AutoOptimizationConfig.O2"}


def quantize(folder: Path, output: Path, *, per_channel: bool) -> dict[str, Any]:
    """Dynamic int8 with the configuration that optimum has for this processor."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    kind = "avx512_vnni" if has_vnni() else "avx512" if has_avx512() else "avx2"
    config = getattr(AutoQuantizationConfig, kind)(is_static=False, per_channel=per_channel)
    quantizer = ORTQuantizer.from_pretrained(folder, file_name="model.onnx")
    quantizer.quantize(save_dir=output, quantization_config=config)
    return {
        "quantization": f"AutoQuantizationConfig.{kind}",
        "per_channel": per_channel,
        "weights": str(config.weights_dtype),
        "activations": str(config.activations_dtype),
        "reduce_range": config.reduce_range,
    }


def main() -> None:
    job = job_of_command_line()
    exported = export(job)
    output = job.output / "model"
    route = job.settings["route"]
    if route == "fp32":
        how: dict[str, Any] = {"export": "ORTModelForSequenceClassification, export=True"}
        exported.rename(output)
    elif route == "O2":
        how = optimize(exported, output)
    else:
        how = quantize(exported, output, per_channel=route == "int8-per-channel")
    files = sorted(output.glob("*.onnx*"))
    model = next(path for path in files if path.suffix == ".onnx")
    job.done(model, ships=files, packages=PACKAGES, how=how)


if __name__ == "__main__":
    main()
