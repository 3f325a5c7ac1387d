"""A bundle whose graph is a TensorRT engine: that of a device which has the GPU for it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from pocketformer.export.bundle import refresh_manifest, write_bundle
from pocketformer.export.sbom import SBOM_FILE, read_origins
from pocketformer.runtime.fingerprint import fingerprint_path, read_fingerprint
from pocketformer.runtime.golden import golden_from_jsonl
from pocketformer.runtime.manifest import EngineNeed, read_manifest

# A GPU adds float16, or TF32, in another order than the CPU that made the golden logits. Never tried on a GPU.
ENGINE_TOLERANCE = 0.1
_ENGINE, _LICENSE, _DATA_LICENSE = "model.engine", "LICENSE.txt", "LICENSE.data.txt"


def write_engine_bundle(source: Path, output: Path, *, graph: Path, engine: Path, target: str) -> Path:
    """Write the bundle ``output``: texts, tokenizer and labels of the bundle ``source``, and ``engine`` as its graph.

    ``graph`` is the typed ONNX file that the engine was built from: onnxruntime computes the golden logits with it on
    the CPU, and the device has to give them within ``ENGINE_TOLERANCE``. Raises as ``write_bundle``, and
    ``VerificationError`` for an engine without its fingerprint.
    """
    manifest = read_manifest(source)
    known = read_fingerprint(engine)
    samples = golden_from_jsonl((source / manifest.golden_file).read_text(encoding="utf-8"))
    write_bundle(
        output,
        graph=graph,
        tokenizer_json=source / manifest.preprocessing.tokenizer_file,
        labels=manifest.postprocessing.labels,
        max_length=manifest.preprocessing.max_length,
        pad_id=manifest.preprocessing.pad_id,
        golden_texts=[sample.text for sample in samples],
        precision=known.precision,
        target=target,
        session=manifest.session,
        provenance=manifest.provenance,
        name=manifest.name,
        license_text=_text(source / _LICENSE),
        data_license_text=_text(source / _DATA_LICENSE),
        origins=read_origins(source / SBOM_FILE),
        tolerance=ENGINE_TOLERANCE,
    )
    made = read_manifest(output)
    (output / made.graph).unlink()
    shutil.copyfile(engine, output / _ENGINE)
    shutil.copyfile(fingerprint_path(engine), fingerprint_path(output / _ENGINE))
    runtime = {**made.runtime, "name": known.library, "version": known.library_version}
    refresh_manifest(output, replace(made, graph=_ENGINE, engine=EngineNeed(known.library), runtime=runtime))
    return output


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
