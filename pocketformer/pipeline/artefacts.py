"""What a run has made so far, handed from stage to stage."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pocketformer.runtime.errors import InputError

# Each is made from those before it.
_DERIVED = ("model", "graph", "quantized", "bundle", "measurements")


@dataclass(frozen=True, kw_only=True)
class Artefacts:
    """Paths of the newest artefact of each kind.

    ``teacher`` and ``model`` are Hugging Face directories; ``graph`` is the fp32 ONNX file of ``model``;
    ``quantized`` the ONNX file that ships; ``bundle`` a bundle directory; ``measurements`` the JSON of a bench;
    ``engine`` a TensorRT engine of ``graph``.
    """

    teacher: Path | None = None
    model: Path | None = None
    graph: Path | None = None
    quantized: Path | None = None
    bundle: Path | None = None
    measurements: Path | None = None
    engine: Path | None = None

    def with_made(self, made: dict[str, str], folder: Path) -> Artefacts:
        """These artefacts with those a stage made (names relative to its folder) put over them."""
        updated = replace(self, **{kind: folder / relative for kind, relative in made.items()})
        first = min((_DERIVED.index(kind) for kind in made if kind in _DERIVED), default=len(_DERIVED))
        # What was derived from an older model or graph is stale.
        stale = {kind: None for kind in _DERIVED[first:] if kind not in made}
        if "engine" not in made and {"model", "graph"} & set(made):
            stale["engine"] = None
        return replace(updated, **stale)

    def need(self, kind: str, *, verb: str) -> Path:
        """The artefact of this kind; ``InputError`` that says which verb makes it."""
        path: Path | None = getattr(self, kind)
        if path is None:
            maker = {
                "teacher": "finetune",
                "model": "finetune",
                "graph": "export",
                "quantized": "quantize",
                "bundle": "bundle",
                "measurements": "bench",
                "engine": "export --format tensorrt",
            }[kind]
            raise InputError(
                f"{verb} needs a {kind}, and there is none yet", hint=f"Run `pocketformer {maker}` first."
            )
        return path

    def to_json(self, base: Path) -> dict[str, str]:
        """Paths relative to ``base`` where they lie inside it."""
        out: dict[str, str] = {}
        for field in fields(self):
            path: Path | None = getattr(self, field.name)
            if path is not None:
                out[field.name] = str(path.relative_to(base) if path.is_relative_to(base) else path)
        return out

    @classmethod
    def from_json(cls, values: dict[str, Any], base: Path) -> Artefacts:
        """The inverse of ``to_json``."""
        known = {field.name for field in fields(cls)}
        return cls(**{kind: base / str(path) for kind, path in values.items() if kind in known})
