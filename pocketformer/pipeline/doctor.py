"""What is installed, what is missing, and which verbs need it. Nothing is imported to find out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True)
class Finding:
    """One package: its installed version (None when missing), the extra that brings it, and what it is for."""

    package: str
    version: str | None
    extra: str
    purpose: str

    def to_dict(self) -> dict[str, str | None]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


_PACKAGES: tuple[tuple[str, str, str], ...] = (
    ("numpy", "", "everything"),
    ("onnxruntime", "", "predict, verify, bench"),
    ("tokenizers", "", "predict, verify, bench"),
    ("click", "", "the command line"),
    ("rich", "", "progress and tables"),
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
    ("matplotlib", "compress", "pictures of a report as PNG"),
)


def examine() -> list[Finding]:
    """Look for every package that some verb uses."""
    return [Finding(name, _version(name), extra, purpose) for name, extra, purpose in _PACKAGES]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
