"""OpenVINO's own route: ``convert_model`` of the torch model, and NNCF's post-training quantization for int8.

``settings.precision`` is "fp32" (the file holds fp16 weights, as ``save_model`` does by default; the CPU plugin
computes in fp32) or "int8": ``nncf.quantize(model_type=TRANSFORMER)`` with 300 training texts, NNCF's own default.
"""

from __future__ import annotations

from typing import Any

import nncf
import numpy as np
import openvino as ov
import torch
from job import Job, job_of_command_line
from transformers import AutoModelForSequenceClassification

PACKAGES = ["openvino", "nncf", "torch", "transformers"]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def feeds(ids: list[int]) -> dict[str, Any]:
    """One text alone: int64 [1, sequence]."""
    array = np.asarray([ids], dtype=np.int64)
    return {"input_ids": array, "attention_mask": np.ones_like(array), "token_type_ids": np.zeros_like(array)}


def convert(job: Job) -> Any:
    """The teacher as an OpenVINO model with free batch and sequence axes."""
    model = AutoModelForSequenceClassification.from_pretrained(job.teacher).eval()
    example = {name: torch.ones((2, 8), dtype=torch.int64) for name in _INPUTS}
    shapes = [(name, [-1, -1], ov.Type.i64) for name in _INPUTS]
    with torch.no_grad():
        converted = ov.convert_model(model, example_input=example, input=shapes)
    # Each also has the name that it had in the traced graph, a number, which may come first.
    for item in converted.inputs:
        item.get_tensor().set_names(item.get_names() & set(_INPUTS))
    return converted


def main() -> None:
    job = job_of_command_line()
    torch.set_num_threads(job.threads)
    model = convert(job)
    how: dict[str, Any] = {"convert": "openvino.convert_model of the torch model, dynamic shapes"}
    if job.settings["precision"] == "int8":
        rows = job.token_ids(job.calibration)
        dataset = nncf.Dataset(rows, feeds)
        model = nncf.quantize(model, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
        how |= {"quantize": "nncf.quantize(model_type=TRANSFORMER)", "calibration_texts": len(rows)}
    output = job.output / "model.xml"
    ov.save_model(model, output)
    job.done(output, ships=[output, output.with_suffix(".bin")], packages=PACKAGES, how=how)


if __name__ == "__main__":
    main()
