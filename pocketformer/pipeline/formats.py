"""From a finished bundle to other forms of its graph: onnxruntime's own format, or text in and answer out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketformer.pipeline.packing import bundle_of, make_way
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.manifest import read_manifest


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written, its size and that of the graph it came from in bytes, and what was found out, in sentences."""

    output: Path
    bytes: int
    source_bytes: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "output": str(self.output),
            "bytes": self.bytes,
            "source_bytes": self.source_bytes,
            "notes": list(self.notes),
        }


def to_ort(source: Path, output: Path, texts: Sequence[str] = (), *, force: bool = False) -> Written:
    """Write the bundle ``output``: that at ``source`` (a bundle or a run) with its graph in onnxruntime's own format.

    Both are compared on the golden texts and on ``texts``. Raises as ``export.ort_format.write_ort_bundle``.
    """
    from pocketformer.export.ort_format import OPERATORS_FILE, write_ort_bundle

    bundle = bundle_of(source)
    make_way(output, force)
    written, near = write_ort_bundle(bundle, output, texts)
    before, after = (_graph_bytes(folder) for folder in (bundle, written))
    return Written(
        output=written,
        bytes=after,
        source_bytes=before,
        notes=(
            f"Beside the ONNX file: {near.sentence()}.",
            f"model.ort has {after / 1e6:.2f} MB, the ONNX file {before / 1e6:.2f} MB: what onnxruntime computes when "
            "it loads a graph is computed already, and packed weights lie unpacked.",
            f"A reduced build of onnxruntime needs only what {OPERATORS_FILE} lists; it is made from onnxruntime's "
            "sources, and none was made here.",
        ),
    )


def to_text_graph(
    source: Path,
    output: Path,
    texts: Sequence[str] = (),
    *,
    characters: str | None = None,
    longest: int = 200,
    force: bool = False,
) -> Written:
    """Write the ONNX file ``output``: text in, answer out. Refused when its tokenizer differs from the bundle's.

    ``texts`` are the user's own; ``characters`` and ``longest`` name what the app lets through. Raises as
    ``export.text_graph.write_text_graph``.
    """
    from pocketformer.export.text_graph import TextDomain, write_text_graph

    bundle = bundle_of(source)
    if output.suffix != ".onnx":
        raise InputError(f"{output} is to be an ONNX file", hint="Name one that ends in .onnx with -o.")
    make_way(output, force)
    domain = TextDomain(characters=characters, longest=longest)
    gate = write_text_graph(bundle, output, texts, domain)
    return Written(
        output=output,
        bytes=output.stat().st_size,
        source_bytes=_graph_bytes(bundle),
        notes=(
            gate.sentence(),
            "An app feeds `text`, one string, and reads `label` and `score`; where `in_domain` is false, the text is "
            "not of the kind that was proven. It needs the library of onnxruntime-extensions beside onnxruntime.",
        ),
    )


def texts_of(files: Sequence[Path | None], text_column: str) -> list[str]:
    """The texts of data files, each once; those that are None are passed over."""
    from pocketformer.compress.data.table import read_rows

    found: dict[str, None] = {}
    for file in files:
        if file is not None:
            found.update(dict.fromkeys(read_rows(file, text_column, None).texts))
    return list(found)


def _graph_bytes(bundle: Path) -> int:
    return (bundle / read_manifest(bundle).graph).stat().st_size
