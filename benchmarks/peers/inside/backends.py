"""How each kind of model is loaded and called: a function of (model, job) that gives (call, settings).

A call takes feeds of int64 [batch, sequence] by input name and gives logits [batch, labels]. Every library gets
the same number of threads, ``job["threads"]``, and otherwise what its own documentation recommends.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[[dict[str, Any]], Any]
Loaded = tuple[Call, dict[str, Any]]


def torch_eager(model: Path, job: dict[str, Any]) -> Loaded:
    """A Hugging Face directory as it is loaded by default, with its default attention."""
    import torch

    classifier = _torch_classifier(model, job["threads"])
    return _torch_call(classifier), {
        "attention": classifier.config._attn_implementation,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def torch_compile(model: Path, job: dict[str, Any]) -> Loaded:
    """The same through inductor: dynamic shapes, weights frozen, called from C++."""
    import torch
    import torch._inductor.config as inductor

    inductor.freezing = True
    inductor.cpp_wrapper = True
    classifier = _torch_classifier(model, job["threads"])
    compiled = torch.compile(classifier, dynamic=True)
    return _torch_call(compiled), {
        "dynamic": True,
        "freezing": True,
        "cpp_wrapper": True,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def onnxruntime(model: Path, job: dict[str, Any]) -> Loaded:
    """An ONNX file in onnxruntime's CPU provider, all graph optimizations on (its default)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    outputs = [session.get_outputs()[0].name]

    def call(feeds: dict[str, Any]) -> Any:
        return session.run(outputs, {name: feeds[name] for name in names})[0]

    settings = {"graph_optimization": "all", "onnxruntime": ort.__version__, "threads": job["threads"]}
    return call, settings


def openvino(model: Path, job: dict[str, Any]) -> Loaded:
    """OpenVINO's CPU plugin for single requests: LATENCY hint, dynamic shapes, one request used again and again."""
    import openvino as ov

    core = ov.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job["threads"]}
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    names = [item.get_any_name() for item in compiled.inputs]
    request = compiled.create_infer_request()
    output = compiled.output(0)

    def call(feeds: dict[str, Any]) -> Any:
        return request.infer([feeds[name] for name in names], share_inputs=True, share_outputs=True)[output]

    streams = compiled.get_property("NUM_STREAMS")
    return call, {**settings, "streams": streams, "openvino": ov.__version__}


def pocketformer(model: Path, job: dict[str, Any]) -> Loaded:  # noqa: ARG001 - the bundle says its threads
    """A Pocketformer bundle as an app loads it: its own settings, which were chosen when it was made."""
    from pocketformer import load

    loaded = load(model)
    names = loaded.engine.input_names

    def call(feeds: dict[str, Any]) -> Any:
        return loaded.engine.run({name: feeds[name] for name in names})

    manifest = loaded.manifest
    settings = {"precision": manifest.precision, "threads": manifest.session.intra_op_threads}
    return call, settings


def _torch_classifier(model: Path, threads: int) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    return AutoModelForSequenceClassification.from_pretrained(model).eval()


def _torch_call(classifier: Any) -> Call:
    import torch

    def call(feeds: dict[str, Any]) -> Any:
        with torch.inference_mode():
            return classifier(**{name: torch.from_numpy(value) for name, value in feeds.items()}).logits

    return call


BACKENDS: dict[str, Callable[[Path, dict[str, Any]], Loaded]] = {
    "torch-eager": torch_eager,
    "torch-compile": torch_compile,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "pocketformer": pocketformer,
}
