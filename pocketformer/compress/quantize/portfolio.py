"""Makes the candidates of ``candidates``, each on its own: its products are quantized, then its tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.compress.quantize.candidates import CANDIDATES, MIXED, Candidate, candidate_by_name, mixed
from pocketformer.compress.quantize.config import (
    DequantizedTablesConfig,
    DynamicConfig,
    EmbeddingsConfig,
    NBitsConfig,
    NeuralCompressorConfig,
    NncfConfig,
)
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.manifest import OPENVINO, graph_files
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from pocketformer.compress.quantize.neural_compressor_static import ExportModule

Feeds = Sequence[Mapping[str, "NDArray[np.int64]"]]


def quantize_candidate(
    name: str,
    *,
    graphs: Mapping[str, Path],
    output: Path,
    calibration: Feeds = (),
    model: torch.nn.Module | None = None,
    export: ExportModule | None = None,
    float_products: Sequence[str] = (),
) -> StepResult[Path]:
    """Make the candidate ``name`` and write it to the file ``output``, which ends in the candidate's ``suffix``.

    ``graphs`` holds the fp32 files that exist: "plain", "fused" or both. ``calibration`` are feeds of the
    graph, int64 [batch, sequence] by input name; candidates with ``needs_calibration`` want some. A
    candidate whose graph is "torch" wants ``model`` (in fp32) and ``export``, which writes a quantized
    module as ONNX (``pocketformer.export.onnx_export.export_module``). ``float_products`` are names of products that
    stay in float32, for a candidate whose name ends in ``MIXED``.

    Metrics: those of the quantizers; what the embeddings' rewrite measured is prefixed ``embeddings_``;
    ``bytes`` is the final file, with its weights. Raises ``InputError`` when something that it needs is missing.
    """
    import shutil

    candidate = candidate_by_name(name)
    if float_products:
        candidate = mixed(candidate, tuple(float_products))
    elif candidate.name.endswith(MIXED):
        raise InputError(
            f"{name} leaves products in float32, and none is named",
            hint=f"Name {name.removesuffix(MIXED)}; which products stay is found by measuring.",
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    work = output.with_name(f".{output.name}.products")
    smoothed = output.with_name(f".{output.name}.smoothed")
    rewritten = output.with_name(f".{output.name}.tables") if candidate.engine == OPENVINO else output
    metrics: dict[str, float] = {}
    notes: list[str] = []
    try:
        source = _products(candidate, graphs, smoothed, work, calibration, model, export, metrics, notes)
        if candidate.embeddings is not None:
            tables = _tables(source, rewritten, candidate.embeddings)
            source = tables.output
            metrics.update({f"embeddings_{key}": value for key, value in tables.metrics.items()})
            notes.extend(tables.notes)
        if candidate.engine == OPENVINO:
            from pocketformer.compress.quantize.openvino import write_openvino

            calibrated = _needed(candidate, calibration)
            metrics.update(write_openvino(source, output, candidate.config, calibrated).metrics)
        elif source != output:
            shutil.copyfile(source, output)
    finally:
        for left in (smoothed, work):
            left.unlink(missing_ok=True)
        if rewritten != output:
            rewritten.unlink(missing_ok=True)
    metrics["bytes"] = float(sum(part.stat().st_size for part in graph_files(output)))
    return StepResult(output=output, metrics=metrics, notes=notes)


def _products(
    candidate: Candidate,
    graphs: Mapping[str, Path],
    smoothed: Path,
    work: Path,
    calibration: Feeds,
    model: torch.nn.Module | None,
    export: ExportModule | None,
    metrics: dict[str, float],
    notes: list[str],
) -> Path:
    """Quantize the products of a candidate: ``work``, or the fp32 graph itself when they stay."""
    if candidate.graph == "torch":
        if model is None or export is None or not isinstance(candidate.config, NeuralCompressorConfig):
            raise InputError(
                f"{candidate.name} quantizes the torch model, which was not given",
                hint="Pass model and export, or choose a candidate that starts from an ONNX file.",
            )
        from pocketformer.compress.quantize.neural_compressor_static import quantize_neural_compressor

        result = quantize_neural_compressor(
            model, work, candidate.config, _needed(candidate, calibration), export
        )
        metrics.update(result.metrics)
        notes.extend(result.notes)
        return result.output
    if candidate.graph not in graphs:
        raise InputError(
            f"{candidate.name} starts from the {candidate.graph} graph, which was not given",
            hint="Choose one of: " + ", ".join(c.name for c in CANDIDATES if c.graph in graphs) + ".",
        )
    source = graphs[candidate.graph]
    if candidate.smoothing is not None:
        from pocketformer.compress.quantize.smoothing import smooth

        result = smooth(source, smoothed, candidate.smoothing, _needed(candidate, calibration))
        metrics.update(result.metrics)
        source = result.output
    if candidate.config is None or isinstance(
        candidate.config, NncfConfig
    ):  # NNCF quantizes OpenVINO's own form
        from pocketformer.compress.quantize.graph_state import load_unquantized

        load_unquantized(source)
        return source
    quantize = _quantizer(candidate.config)
    result = quantize(source, work, candidate.config, _needed(candidate, calibration))
    metrics.update(result.metrics)
    notes.extend(result.notes)
    return result.output


def _tables(
    source: Path, output: Path, config: EmbeddingsConfig | DequantizedTablesConfig
) -> StepResult[Path]:
    if isinstance(config, DequantizedTablesConfig):
        from pocketformer.compress.quantize.dequantized_tables import dequantize_tables

        return dequantize_tables(source, output, config)
    from pocketformer.compress.quantize.embeddings import quantize_embeddings

    return quantize_embeddings(source, output, config)


def _quantizer(config: object) -> Callable[[Path, Path, Any, Feeds], StepResult[Path]]:
    if isinstance(config, DynamicConfig):
        from pocketformer.compress.quantize.onnxruntime_dynamic import quantize_dynamic

        return quantize_dynamic
    if isinstance(config, NBitsConfig):
        from pocketformer.compress.quantize.nbits import quantize_nbits

        return quantize_nbits
    from pocketformer.compress.quantize.onnxruntime_static import quantize_static

    return quantize_static


def _needed(candidate: Candidate, calibration: Feeds) -> Feeds:
    if candidate.needs_calibration and not calibration:
        raise InputError(
            f"{candidate.name} needs calibration texts", hint="Pass feeds made of training texts."
        )
    return calibration
