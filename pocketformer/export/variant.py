"""A bundle with another form of its graph: the same texts, tokenizer and labels, proven anew.

Only the graph is exchanged, and what hangs on it. The golden samples keep their texts, and their logits are those of
the new graph, computed by loading the new bundle through the runtime: what is proven is what ships.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pocketformer.export.bundle import publish_verified, refresh_manifest
from pocketformer.export.sbom import SBOM_FILE, installed_version, read_origins, sbom
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.golden import golden_from_jsonl, golden_to_jsonl, make_golden
from pocketformer.runtime.manifest import ONNXRUNTIME, EngineNeed, TensorSpec, graph_files, read_manifest
from pocketformer.runtime.model import load

_PACKAGES = {"litert": "ai-edge-litert"}


@dataclass(frozen=True, kw_only=True)
class GraphForm:
    """Another form of a bundle's graph: the file, the engine that runs it, and what of the manifest changes with it.

    None keeps what the bundle says. ``companions`` are further files by the name that they get in the bundle.
    """

    graph: Path
    engine: str = "onnxruntime"
    precision: str | None = None
    target: str | None = None
    tolerance: float | None = None
    inputs: tuple[TensorSpec, ...] | None = None
    companions: Mapping[str, Path] = field(default_factory=dict)


def write_variant(source: Path, output: Path, form: GraphForm) -> Path:
    """Write the bundle ``output``, which must not exist yet: that of ``source`` with ``form`` for its graph.

    Raises ``InputError`` when ``output`` exists, ``VerificationError`` when the new bundle does not verify, and what
    ``load`` raises when the engine is missing here.
    """
    if output.exists():
        raise InputError(f"{output} exists already", hint="Remove it, or write the bundle elsewhere.")
    manifest = read_manifest(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        for name in manifest.files:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, work / name)
        for part in graph_files(work / manifest.graph):
            part.unlink()
        engines = [] if form.engine == ONNXRUNTIME else [_PACKAGES.get(form.engine, form.engine)]
        made_of = sbom(manifest.name, read_origins(source / SBOM_FILE), engines=engines)
        (work / SBOM_FILE).write_text(made_of, encoding="utf-8")
        graph = f"{Path(manifest.graph).stem}{form.graph.suffix}"
        for name, file in {graph: form.graph, **form.companions}.items():
            shutil.copyfile(file, work / name)
        samples = golden_from_jsonl((work / manifest.golden_file).read_text(encoding="utf-8"))
        changed = replace(
            manifest,
            graph=graph,
            engine=EngineNeed(form.engine),
            precision=form.precision or manifest.precision,
            target=form.target or manifest.target,
            tolerance=manifest.tolerance if form.tolerance is None else form.tolerance,
            inputs=form.inputs or manifest.inputs,
            runtime={
                **manifest.runtime,
                "name": form.engine,
                "version": installed_version(_PACKAGES.get(form.engine, form.engine)),
            },
        )
        refresh_manifest(work, changed)
        golden = golden_to_jsonl(make_golden(load(work), [sample.text for sample in samples]))
        (work / manifest.golden_file).write_text(golden, encoding="utf-8")
        refresh_manifest(work, changed)
        publish_verified(work, output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return output
