"""Write the directory that an app embeds: graph, tokenizer, golden samples, manifest, README.

The golden samples are computed by loading the finished directory through the runtime, so that what is
proven is what ships. The directory is made beside its place and renamed: it exists whole or not at all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pocketformer.export.graph_file import load_graph
from pocketformer.export.inspect_graph import GraphSummary, inspect_graph
from pocketformer.export.openvino_ir import IrSummary, inspect_ir
from pocketformer.export.sbom import SBOM_FILE, Origin, installed_version, sbom
from pocketformer.runtime.errors import ExportError, InputError, VerificationError
from pocketformer.runtime.golden import golden_to_jsonl, make_golden
from pocketformer.runtime.manifest import (
    LITERT,
    MANIFEST_FILE,
    ONNXRUNTIME,
    OPENVINO,
    EngineNeed,
    FileEntry,
    Manifest,
    Postprocessing,
    Preprocessing,
    SessionSettings,
    TensorSpec,
    file_entry,
    graph_files,
)
from pocketformer.runtime.model import load
from pocketformer.runtime.results import StepResult
from pocketformer.runtime.verify import verify

# How far logits may lie apart on another processor; float graphs only reorder sums. Dynamic int8 rounds activations, so
# a last-bit difference in a float sum moves a value by one whole step of its scale: of a thousand questions to the
# demo's model, three had logits further than 0.1 from those of WebAssembly, and one 0.19.
FLOAT_TOLERANCE = 1e-3
INTEGER_TOLERANCE = 0.25
_GRAPH, _TOKENIZER, _GOLDEN, _README = "model", "tokenizer.json", "golden.jsonl", "README.md"
_LICENSE, _DATA_LICENSE = "LICENSE.txt", "LICENSE.data.txt"


def write_bundle(
    output_dir: Path,
    *,
    graph: Path,
    tokenizer_json: Path,
    labels: Sequence[str],
    max_length: int,
    pad_id: int,
    golden_texts: Sequence[str],
    precision: str,
    target: str,
    session: SessionSettings,
    engine: str = ONNXRUNTIME,
    provenance: Mapping[str, Any],
    name: str,
    license_text: str | None = None,
    data_license_text: str | None = None,
    origins: Sequence[Origin] = (),
    tolerance: float | None = None,
) -> StepResult[Path]:
    """Write the bundle ``output_dir``, which must not exist yet, and verify it.

    ``graph`` is the ONNX file that ships, or OpenVINO's IR where that is its ``engine`` (as in ``EngineNeed``);
    ``labels`` stand in the order of its logits, ``max_length`` and
    ``pad_id`` are the tokenizer's settings, ``golden_texts`` at least one text to replay. ``license_text``
    is the licence of the model that this one came from, ``data_license_text`` that of the data, and ``origins`` are
    both for the bundle's SBOM. ``tolerance`` is the largest absolute difference of
    golden logits that ``verify`` allows; by default it follows from the graph's precision.

    Metrics: ``bytes`` of all files, ``graph_bytes``, ``golden_samples``, ``tolerance``. Raises
    ``InputError`` when the directory exists, ``VerificationError`` when the bundle does not verify.
    """
    if output_dir.exists():
        raise InputError(f"{output_dir} exists already", hint="Remove it, or write the bundle elsewhere.")
    if not golden_texts:
        raise ExportError("a bundle needs at least one golden text", hint="Pass texts of the task.")
    for source in (graph, tokenizer_json):
        if not source.is_file():
            raise ExportError(f"{source} does not exist", hint="Run the export step first.")
    allowed = tolerance
    if allowed is None:
        allowed = INTEGER_TOLERANCE if _inspect(graph).quantized else FLOAT_TOLERANCE
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    # Beside its final place, so that the rename stays on one file system.
    work = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.", dir=output_dir.parent))
    try:
        shipped = f"{_GRAPH}{graph.suffix}"
        for part in graph_files(graph):
            shutil.copyfile(part, work / f"{_GRAPH}{part.suffix}")
        shutil.copyfile(tokenizer_json, work / _TOKENIZER)
        if license_text:
            (work / _LICENSE).write_text(license_text, encoding="utf-8")
        if data_license_text:
            (work / _DATA_LICENSE).write_text(data_license_text, encoding="utf-8")
        engines = [] if engine == ONNXRUNTIME else [engine]
        (work / SBOM_FILE).write_text(sbom(name, origins, engines=engines), encoding="utf-8")
        inputs, outputs = _tensor_specs(work / shipped)
        manifest = Manifest(
            name=name,
            target=target,
            precision=precision,
            graph=shipped,
            engine=_need(work / shipped, engine),
            inputs=inputs,
            outputs=outputs,
            preprocessing=Preprocessing(max_length=max_length, pad_id=pad_id, tokenizer_file=_TOKENIZER),
            postprocessing=Postprocessing(labels=tuple(labels)),
            session=session,
            golden_file=_GOLDEN,
            tolerance=allowed,
            provenance=dict(provenance),
            runtime={
                "name": engine,
                "version": installed_version(engine),
                "tokenizers": installed_version("tokenizers"),
            },
            files={},
        )
        (work / _README).write_text(_readme(manifest, work), encoding="utf-8")
        # A first manifest with an empty golden file lets the runtime itself compute the golden samples.
        (work / _GOLDEN).write_text("", encoding="utf-8")
        _write_manifest(work, manifest)
        samples = make_golden(load(work), list(golden_texts))
        (work / _GOLDEN).write_text(golden_to_jsonl(samples), encoding="utf-8")
        _write_manifest(work, manifest)
        publish_verified(work, output_dir)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    files = [path for path in output_dir.rglob("*") if path.is_file()]
    return StepResult(
        output=output_dir,
        metrics={
            "bytes": float(sum(path.stat().st_size for path in files)),
            "graph_bytes": float(sum(part.stat().st_size for part in graph_files(output_dir / shipped))),
            "golden_samples": float(len(samples)),
            "tolerance": allowed,
        },
    )


def publish_verified(work: Path, output: Path) -> None:
    """Rename the finished bundle ``work`` to ``output``; ``VerificationError`` when it does not verify."""
    report = verify(work)
    if not report.ok:
        failed = next(check for check in report.checks if not check.ok)
        raise VerificationError(
            f"the bundle does not verify, {failed.name}: {failed.detail}",
            hint="The graph gives other answers from run to run; do not ship it.",
        )
    work.chmod(0o755)  # a temporary directory is private, a bundle is not
    work.rename(output)


def refresh_manifest(folder: Path, manifest: Manifest) -> None:
    """Write README and manifest anew, for the files that now stand in ``folder``."""
    (folder / _README).write_text(_readme(manifest, folder), encoding="utf-8")
    _write_manifest(folder, manifest)


def _write_manifest(work: Path, manifest: Manifest) -> None:
    entries: dict[str, FileEntry] = {
        path.relative_to(work).as_posix(): file_entry(path)
        for path in sorted(work.rglob("*"))
        if path.is_file() and path.name != MANIFEST_FILE
    }
    (work / MANIFEST_FILE).write_text(replace(manifest, files=entries).to_json(), encoding="utf-8")


def _inspect(graph: Path) -> GraphSummary | IrSummary:
    return inspect_ir(graph) if graph.suffix == ".xml" else inspect_graph(graph)


def _need(graph: Path, engine: str) -> EngineNeed:
    found = _inspect(graph)
    return EngineNeed(engine, found.minimum_version if isinstance(found, IrSummary) else None)


def _tensor_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What the graph itself says that it takes and gives."""
    if path.suffix == ".xml":
        found = inspect_ir(path)
        return found.inputs, found.outputs
    import onnx

    graph = load_graph(path).graph

    def spec(item: Any, axes: tuple[str, ...]) -> TensorSpec:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
        return TensorSpec(name=item.name, dtype=str(dtype), axes=axes)

    inputs = tuple(spec(item, ("batch", "sequence")) for item in graph.input)
    return inputs, tuple(spec(item, ("batch", "label")) for item in graph.output)


def _package(manifest: Manifest) -> str:
    extra = manifest.engine.name if manifest.engine.name in (OPENVINO, LITERT) else None
    return "pocketformer" if extra is None else f"'pocketformer[{extra}]'"


def _by(manifest: Manifest) -> str:
    made = f"{manifest.runtime['name']} {manifest.runtime['version']}"
    if not manifest.graph.endswith(".engine"):
        return f"and verified with {made}"
    return f"by {made}, and runs with that version alone, on the GPU that `{manifest.graph}.json` names"


def _listed(manifest: Manifest) -> str:
    return ", ".join(f"`{part.name}`" for part in graph_files(Path(manifest.graph)))


def _readme(manifest: Manifest, folder: Path) -> str:
    labels = ", ".join(f"`{label}`" for label in manifest.postprocessing.labels)
    licence = "".join(
        f"\nThe licence of the {what} that this one was made {how} stands in `{file}`.\n"
        for file, what, how in ((_LICENSE, "model", "from"), (_DATA_LICENSE, "data", "with"))
        if (folder / file).is_file()
    )
    return f"""# {manifest.name}

A text classifier for {manifest.target}, {manifest.precision}. Labels: {labels}.

    pip install {_package(manifest)}

    from pocketformer import load
    model = load("path/to/this/directory")
    print(model.predict(["your text"])[0].label)

Or on the command line: `pocketformer predict DIRECTORY "your text"`. `pocketformer verify DIRECTORY`
proves on any device that the files are whole and that the golden samples give the logits that they gave
when this was made (within {manifest.tolerance:g}).

| File | What it is |
|---|---|
| {_listed(manifest)} | the graph; it was made {_by(manifest)} |
| `{_TOKENIZER}` | the tokenizer; texts are cut to {manifest.preprocessing.max_length} tokens |
| `{MANIFEST_FILE}` | inputs, outputs, labels, session settings, provenance, SHA-256 of every file |
| `{_GOLDEN}` | texts with their token ids, logits, labels and scores, replayed by `verify` |
| `{SBOM_FILE}` | the models, data and packages that it was made of and with (CycloneDX) |
{licence}"""
