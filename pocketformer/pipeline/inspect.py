"""``inspect``: what a model is made of, what can be pruned, and what each export would do. Nothing is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.pipeline.rundir import read_run
from pocketformer.runtime.errors import ModelError

_SEQUENCES = (32, 128)


@dataclass(frozen=True, kw_only=True)
class ExportOutlook:
    """What an export would do: whether it can run here, what file it gives, and why."""

    exporter: str
    available: bool
    what: str
    file_mb: float


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Facts of one model as plain values (``facts``), and the same as lines for a person."""

    facts: dict[str, Any]
    text: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.facts

    def lines(self) -> Sequence[str]:
        """The facts as a person reads them."""
        return self.text


def inspect(path: Path) -> Inspection:
    """Inspect a Hugging Face directory, the newest model of a run directory, a bundle or an ONNX file.

    ``ModelError`` for anything else.
    """
    if not path.exists():
        raise ModelError(
            f"no such model: {path}", hint="Name a Hugging Face directory, a run or an ONNX file."
        )
    if path.suffix == ".onnx":
        return _inspect_graph(path)
    if (path / "manifest.json").exists():
        from pocketformer.runtime.manifest import read_manifest

        return _inspect_graph(path / read_manifest(path).graph)
    run = read_run(path)
    if run is not None:
        path = Artefacts.from_json(run["artefacts"], path.resolve()).need("model", verb="inspect")
    return _inspect_model(path)


def _inspect_model(path: Path) -> Inspection:
    from pocketformer.compress.inspect_model import inspect_model

    found = inspect_model(path)
    exports = _exports(found.bytes)
    lines = [
        f"{found.directory}: {found.model_type}, {found.parameters / 1e6:.1f}M parameters, {found.bytes / 1e6:.1f} MB",
        f"Labels: {', '.join(found.labels) if found.labels else 'none, it has no trained head'}",
    ]
    macs = [f"{count / 1e6:.0f}M at {n} tokens" for n in _SEQUENCES if (count := found.macs(n)) is not None]
    if macs:
        lines.append(f"Multiply-accumulates: {', '.join(macs)}")
    lines.append("Parts:")
    lines += [f"  {p.name:<28} {p.parameters / 1e6:>8.2f}M {p.bytes / 1e6:>8.1f} MB" for p in found.parts]
    if found.reason:
        lines.append(found.reason)
    lines.append("Pruning:")
    lines += [f"  {p.what:<20} {p.present:<24} {'' if p.possible else 'no: '}{p.how}" for p in found.prunable]
    lines.append("Exports:")
    lines += [
        f"  {e.exporter:<20} {e.file_mb:>6.1f} MB {'' if e.available else '(not installed) '}{e.what}"
        for e in exports
    ]
    facts = found.to_dict(_SEQUENCES) | {"exports": [dataclasses.asdict(e) for e in exports]}
    return Inspection(facts=facts, text=tuple(lines))


def _inspect_graph(path: Path) -> Inspection:
    from pocketformer.export.inspect_graph import inspect_graph

    found = inspect_graph(path)
    operators = sorted(found.operators.items(), key=lambda item: -item[1])
    lines = [
        f"{path}: ONNX opset {found.opset}, {found.precision}, {found.parameters / 1e6:.1f}M parameters, "
        f"{found.bytes / 1e6:.1f} MB",
        f"Quantized: {'yes' if found.quantized else 'no'}; domains: {', '.join(found.domains)}",
        "Initializers: " + ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in found.initializer_bytes.items()),
        f"{found.nodes} nodes: " + ", ".join(f"{name} {count}" for name, count in operators[:12]),
    ]
    return Inspection(facts={"path": str(path), **found.to_dict()}, text=tuple(lines))


def _exports(weights: int) -> list[ExportOutlook]:
    """The ONNX file is as large as the weights; int8 weights take a quarter."""
    optimum = util.find_spec("optimum") is not None and util.find_spec("optimum.exporters") is not None
    return [
        ExportOutlook(
            exporter="onnx (optimum)",
            available=optimum,
            what="fp32, dynamic batch and sequence; onnxruntime fuses its attention",
            file_mb=weights / 1e6,
        ),
        ExportOutlook(
            exporter="onnx (dynamo)",
            available=util.find_spec("onnxscript") is not None,
            what="fp32, dynamic batch and sequence; attention stays as single operators",
            file_mb=weights / 1e6,
        ),
        ExportOutlook(
            exporter="onnx, then quantize",
            available=util.find_spec("onnx") is not None,
            what="int8 weights; int4 word embeddings make it smaller still",
            file_mb=weights / 4e6,
        ),
    ]
