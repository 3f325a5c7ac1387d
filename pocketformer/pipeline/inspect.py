"""``inspect``: what a model is made of, what can be pruned, and what each export would do. Nothing is written."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.pipeline.inspect_engine import inspect_engine
from pocketformer.pipeline.inspection import Inspection
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


def inspect(path: Path, *, mobile: bool = False) -> Inspection:
    """Inspect a model: a Hugging Face directory, the newest of a run, a bundle, a graph's file or an engine.

    A TensorRT engine is named by its file, or by the directory that holds no other. ``mobile`` also says of an ONNX
    graph what accelerators on phones could take of it. ``ModelError`` for anything else, ``VerificationError`` for a
    bundle that is damaged or misleads, or an engine whose fingerprint or report of layers is damaged.
    """
    found = _inspect(path)
    if not mobile:
        return found
    graph = _graph_of(path)
    if graph.suffix != ".onnx":
        raise ModelError(
            f"{path} is no ONNX graph, which is what can be looked at for phones",
            hint="Name an ONNX file or a bundle that has one.",
        )
    from pocketformer.export.mobile import mobile_usability

    report = mobile_usability(graph)
    return Inspection(facts={**found.facts, "mobile": report.to_dict()}, text=(*found.text, *report.lines()))


def _graph_of(path: Path) -> Path:
    """The graph of a bundle; any other path itself."""
    if not (path / "manifest.json").exists():
        return path
    from pocketformer.runtime.opening import check_graph, open_bundle

    manifest, contents = open_bundle(path)
    check_graph(contents, manifest)  # the onnx package, too, opens whatever file a tensor names
    return path / manifest.graph


def _inspect(path: Path) -> Inspection:
    if not path.exists():
        raise ModelError(
            f"no such model: {path}", hint="Name a Hugging Face directory, a run, an ONNX file or an engine."
        )
    if path.suffix in (".onnx", ".xml", ".ort", ".tflite"):
        return _inspect_file(path)
    if (path / "manifest.json").exists():
        return _inspect_file(_graph_of(path))
    engine = _engine(path)
    if engine is not None:
        return inspect_engine(engine)
    run = read_run(path)
    if run is not None:
        path = Artefacts.from_json(run["artefacts"], path.resolve()).need("model", verb="inspect")
    return _inspect_model(path)


def _inspect_file(graph: Path) -> Inspection:
    """A graph by what its name ends in."""
    kinds = {".engine": inspect_engine, ".xml": _inspect_ir, ".ort": _inspect_ort, ".tflite": _inspect_litert}
    return kinds.get(graph.suffix, _inspect_graph)(graph)


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


def _inspect_ir(path: Path) -> Inspection:
    from pocketformer.export.openvino_ir import inspect_ir

    found = inspect_ir(path)
    operators = list(found.operators.items())
    lines = [
        f"{path}: OpenVINO IR, {found.precision}, {found.parameters / 1e6:.1f}M parameters, {found.bytes / 1e6:.1f} MB",
        f"Runs in OpenVINO {found.minimum_version or '(a release newer than is known here)'} or newer",
        "Constants: " + ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in found.dtype_bytes.items()),
        f"{found.nodes} layers: " + ", ".join(f"{name} {count}" for name, count in operators[:12]),
    ]
    return Inspection(facts={"path": str(path), **found.to_dict()}, text=tuple(lines))


def _inspect_ort(path: Path) -> Inspection:
    from pocketformer.export.ort_format import inspect_ort

    found = inspect_ort(path)
    lines = [f"{path}: onnxruntime's own format, {found.bytes / 1e6:.1f} MB", "Operators that it needs:"]
    lines += [f"  {domain:<16} {', '.join(names)}" for domain, names in found.operators.items()]
    return Inspection(facts={"path": str(path), **found.to_dict()}, text=tuple(lines))


def _inspect_litert(path: Path) -> Inspection:
    from pocketformer.runtime.backends.litert import LitertEngine

    found, size = LitertEngine(path), path.stat().st_size
    lengths = ", ".join(map(str, found.lengths))
    lines = (
        f"{path}: LiteRT, {size / 1e6:.1f} MB",
        f"Texts of up to {lengths} tokens, a signature each; inputs: {', '.join(found.input_names)}",
    )
    facts = {
        "path": str(path),
        "bytes": size,
        "lengths": list(found.lengths),
        "inputs": list(found.input_names),
    }
    return Inspection(facts=facts, text=lines)


def _engine(path: Path) -> Path | None:
    """The engine that ``path`` names; None for a directory with a model or a run in it."""
    from pocketformer.runtime.verify_engine import find_engine

    if any((path / name).exists() for name in ("run.json", "config.json")):
        return None
    return find_engine(path)


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
