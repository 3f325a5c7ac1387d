"""onnxruntime's own file format (``.ort``): the graph as onnxruntime has optimized it, ready to be used as it lies.

It is what a reduced build of onnxruntime reads: one without the parser of ONNX, without optimizers, and with only those
operators and types that ``required_operators_and_types.config`` lists (onnxruntime.ai, "Build with size reductions").
Such a build needs onnxruntime's sources and was never made here; a full onnxruntime reads the file as well.

Optimizations are applied once, now ("fixed"). The other style saves some of them to be replayed on the device, for
NNAPI and CoreML; it works only where the app allows it and trusts the file. Layouts that only x86 has are left out.
The constants that a graph computes when it is loaded are computed now: weights that were packed lie unpacked in it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketformer.export.agreement import TextAgreement, compare_models
from pocketformer.export.variant import GraphForm, write_variant
from pocketformer.runtime.errors import ExportError, ModelError, ParityError
from pocketformer.runtime.manifest import read_manifest
from pocketformer.runtime.model import load
from pocketformer.runtime.results import StepResult

OPERATORS_FILE = "required_operators_and_types.config"
# The very same kernels compute both files; only the order in which sums were folded may differ.
ORT_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class OrtSummary:
    """An ``.ort`` file: its size, and the operators that a reduced build needs for it, by domain and opset."""

    bytes: int
    operators: Mapping[str, Sequence[str]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def write_ort(graph: Path, output: Path) -> StepResult[Path]:
    """Write the ONNX file ``graph`` as ``output`` (``.ort``), with ``OPERATORS_FILE`` beside it.

    Metrics: ``bytes`` and ``onnx_bytes``. Raises ``ExportError`` when onnxruntime cannot convert it.
    """
    try:
        from onnxruntime.tools import convert_onnx_models_to_ort as tool
    except ImportError as error:
        raise ExportError(
            f"this onnxruntime has no converter to its own format: {error}",
            hint='Install the workstation half: pip install "pocketformer[compress]".',
        ) from error
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        try:
            with _quiet():
                tool.convert_onnx_models_to_ort(
                    graph,
                    output_dir=made,
                    optimization_styles=[tool.OptimizationStyle.Fixed],
                    target_platform="arm",
                    enable_type_reduction=True,
                )
            (file,), (config,) = made.glob("*.ort"), made.glob("*.config")
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise ExportError(
                f"onnxruntime cannot write {graph} in its own format: {error}",
                hint="Check the graph with `pocketformer verify`.",
            ) from error
        output.write_bytes(file.read_bytes())
        # Its first lines name the folder that it was made in.
        lines = [line for line in config.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        header = [
            f"# Operators and types of {output.name}, for onnxruntime's build.py --include_ops_by_config"
        ]
        (output.parent / OPERATORS_FILE).write_text("\n".join(header + lines) + "\n", encoding="utf-8")
    return StepResult(
        output=output,
        metrics={"bytes": float(output.stat().st_size), "onnx_bytes": float(graph.stat().st_size)},
    )


def write_ort_bundle(source: Path, output: Path, texts: Sequence[str]) -> tuple[Path, TextAgreement]:
    """Write the bundle ``output``: that of ``source`` with its graph as ``model.ort``, and how near the two are.

    ``texts`` are compared beside the golden ones. Raises ``ParityError`` when a logit differs by more than
    ``ORT_TOLERANCE``, ``ExportError`` for a bundle whose graph is not ONNX, and as ``write_variant``.
    """
    manifest = read_manifest(source)
    graph = source / manifest.graph
    if graph.suffix != ".onnx":
        raise ExportError(
            f"the graph of {source} is {graph.name}, not ONNX", hint="Name a bundle with a .onnx."
        )
    with tempfile.TemporaryDirectory() as folder:
        written = write_ort(graph, Path(folder) / "model.ort")
        companions = {OPERATORS_FILE: written.output.parent / OPERATORS_FILE}
        write_variant(source, output, GraphForm(graph=written.output, companions=companions))
    from pocketformer.runtime.golden import golden_from_jsonl

    golden = golden_from_jsonl((source / manifest.golden_file).read_text(encoding="utf-8"))
    near = compare_models(load(source), load(output), [*(sample.text for sample in golden), *texts])
    if not near.max_abs_difference <= ORT_TOLERANCE:
        import shutil

        shutil.rmtree(output)
        raise ParityError(
            f"model.ort does not compute what {graph.name} computes: {near.sentence()}",
            hint="Ship the ONNX file; the bundle that was written is removed.",
        )
    return output, near


def inspect_ort(path: Path) -> OrtSummary:
    """Read which operators the ``.ort`` file at ``path`` needs; ``ModelError`` when it is none."""
    try:
        from onnxruntime.tools.ort_format_model.ort_model_processor import OrtFormatModelProcessor

        required: dict[str, dict[int, set[str]]] = {}
        with _quiet():
            OrtFormatModelProcessor(str(path), required, None).process()
        size = path.stat().st_size
    except Exception as error:  # flatbuffers raises whatever reading past the end raises
        raise ModelError(
            f"{path} cannot be read as an .ort file: {error}", hint="Write it again with --format ort."
        ) from error
    operators = {
        f"{domain} {opset}": sorted(names)
        for domain, opsets in sorted(required.items())
        for opset, names in sorted(opsets.items())
        if names
    }
    return OrtSummary(bytes=size, operators=operators)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tool prints what it does, logs, and leaves files open."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        logging.disable(before)
