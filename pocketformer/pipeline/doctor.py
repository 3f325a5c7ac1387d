"""What is installed, what is missing, and which verbs need it.

Packages are looked up without importing them. For a GPU, the driver and onnxruntime are asked.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib import metadata

from pocketformer.targets.agent.device import PACKAGES


@dataclass(frozen=True)
class Finding:
    """One package or part of the machine, the extra that brings it, and what it is for.

    ``version`` is what is there, None when it is missing; ``reason`` says why, where more is known than that.
    """

    package: str
    version: str | None
    extra: str
    purpose: str
    reason: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


_PACKAGES: tuple[tuple[str, str, str], ...] = (
    ("numpy", "", "everything"),
    ("onnxruntime", "", "predict, verify, bench"),
    ("tokenizers", "", "predict, verify, bench"),
    ("packaging", "", "devices over SSH (--wheels)"),
    ("click", "", "the command line"),
    ("rich", "compress", "progress, report and compare in the terminal"),
    ("pydantic", "", "recipes and reports"),
    ("PyYAML", "", "recipes and target profiles"),
    ("torch", "compress", "finetune, distill, prune, export, bench (eager baseline)"),
    ("transformers", "compress", "finetune, distill, prune, export"),
    ("accelerate", "compress", "finetune, distill"),
    ("safetensors", "compress", "reading and writing weights"),
    ("scikit-learn", "compress", "the classical baseline in reports"),
    ("onnx", "compress", "export, quantize"),
    ("onnxscript", "compress", "export --exporter dynamo"),
    ("optimum", "compress", "export --exporter optimum"),
    ("optimum-onnx", "compress", "export --exporter optimum"),
    ("neural-compressor", "compress", "quantize (one of the candidates)"),
    ("pyarrow", "compress", "Parquet files"),
    ("pandas", "compress", "Parquet files"),
    ("mlcommons-loadgen", "compress", "bench (LoadGen scenarios)"),
    ("psutil", "compress", "bench (memory)"),
    ("jinja2", "compress", "report.html"),
    ("tensorrt-rtx-cu12", "tensorrt-rtx", "export --format tensorrt, without a GPU"),
    ("tensorrt", "", "export --format tensorrt, in place of the above where it is installed"),
    ("ai-edge-litert", "litert", "predict and verify of bundles made for LiteRT"),
    ("litert-torch", "litert-export", "export --format litert"),
    ("onnxruntime-extensions", "text-graph", "export --format text-graph"),
    ("openvino", "openvino", "quantize (its candidates); predict, verify, bench of bundles made for it"),
    ("nncf", "nncf", "quantize (int8 candidates for OpenVINO)"),
    ("optuna", "optuna", "compress --search --store (a search shared by several processes)"),
    ("starlette", "serve", "serve"),
    ("uvicorn", "serve", "serve"),
    ("matplotlib", "compress", "pictures of a report as PNG"),
    ("nvidia-ml-py", "gpu", "targets probe; bench --target gpu (power, clocks, throttling)"),
    ("onnxruntime-gpu", "", "predict, verify and bench on a GPU, in place of onnxruntime"),
)
_GPU_VERBS = "predict, verify and bench on a GPU"


def examine() -> list[Finding]:
    """Look for every package that some verb uses, and for what a GPU needs."""
    packages = [Finding(name, _version(name), extra, purpose) for name, extra, purpose in _PACKAGES]
    return [*packages, *_gpu()]


def _gpu() -> list[Finding]:
    """NVIDIA's driver, the GPUs that it shows, and onnxruntime's providers for them."""
    from pocketformer.targets.nvml import find_gpus

    gpus, reason = find_gpus()
    names = ", ".join(str(gpu["name"]) for gpu in gpus) or None
    found = Finding("NVIDIA GPU", names, "", "targets probe, bench --target gpu", reason)
    try:
        from pocketformer.runtime import providers
    except ImportError as error:
        return [found, Finding("GPU providers", None, "", _GPU_VERBS, str(error))]
    driver = providers.driver_missing()
    rows = [
        found,
        Finding("NVIDIA driver", None if driver else "found", "", _GPU_VERBS, "; ".join(driver) or None),
    ]
    for name in (providers.CUDA_PROVIDER, providers.TENSORRT_PROVIDER):
        lacking = [reason for reason in providers.what_is_missing(name) if reason not in driver]
        rows.append(
            Finding(
                name, None if lacking else _version("onnxruntime"), "", _GPU_VERBS, "; ".join(lacking) or None
            )
        )
    return rows


def _version(name: str) -> str | None:
    for distribution in PACKAGES.get(name, (name,)):  # vendors build their own onnxruntime
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None
