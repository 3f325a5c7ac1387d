"""The quantizers as one explicit list of named candidates, each of which can be made on its own.

No candidate wins on every processor and every shape: measuring decides. The names say what they are:
quantizer, granularity of the weights, ``reduced`` for 7-bit weights (x86 without VNNI saturates otherwise),
``fused`` for the graph that onnxruntime's optimizer made, ``packed`` for weights in 4 bits or fewer that are expanded
to int8 at load, ``nbits`` for weights that stay in 4 bits, then how the embedding tables are stored. What begins with
``openvino`` runs in OpenVINO and not in onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketformer.compress.quantize.config import (
    DequantizedTablesConfig,
    DynamicConfig,
    EmbeddingsConfig,
    NBitsConfig,
    NeuralCompressorConfig,
    NncfConfig,
    PackedWeightsConfig,
    StaticConfig,
)
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.manifest import ONNXRUNTIME, OPENVINO, graph_files
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from pocketformer.compress.quantize.neural_compressor_static import ExportModule

Feeds = Sequence[Mapping[str, "NDArray[np.int64]"]]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to quantize a model.

    ``graph`` is what it starts from: "plain" and "fused" are ONNX files of the fp32 model, "torch" the
    model itself. ``config`` quantizes the products and ``embeddings`` the tables; None leaves them in
    float32. ``precision`` is the name that manifests and reports give the result. ``slow`` candidates take
    about half a minute whatever the model's size. ``engine`` is what runs the result, as manifests name it.
    """

    name: str
    graph: Literal["plain", "fused", "torch"]
    config: DynamicConfig | StaticConfig | NBitsConfig | NeuralCompressorConfig | NncfConfig | None
    embeddings: EmbeddingsConfig | DequantizedTablesConfig | None
    precision: str
    slow: bool = False
    engine: str = ONNXRUNTIME

    @property
    def needs_calibration(self) -> bool:
        """Whether ranges of activations are fixed beforehand, from texts of the training split."""
        weights = self.config.packed if isinstance(self.config, DynamicConfig) else self.config
        if isinstance(weights, PackedWeightsConfig | NBitsConfig):
            return weights.needs_calibration
        return isinstance(self.config, StaticConfig | NeuralCompressorConfig | NncfConfig)

    @property
    def reduced(self) -> bool:
        """Whether its weights have 7 bits, which no processor's products overflow with."""
        return bool(getattr(self.config, "reduce_range", False))

    @property
    def suffix(self) -> str:
        """How the name of its file ends: an ONNX file, or OpenVINO's IR with its weights beside it."""
        return ".xml" if self.engine == OPENVINO else ".onnx"


# At 8 bits searching for scales gains nothing: the error is 0.7% of the table's norm either way.
ROWS_8 = EmbeddingsConfig(bits=8, grid=1)
BLOCKS_4 = EmbeddingsConfig(bits=4, block_size=128, symmetric=False, half_scales=True)
BLOCKS_4_FINE = EmbeddingsConfig(bits=4, block_size=32, symmetric=False, half_scales=True)
CODEBOOK = EmbeddingsConfig(bits=8, grid=1, codebook_group=3)
_TABLES = {
    ROWS_8: "int8-dynamic",
    BLOCKS_4: "int8-dynamic-embeddings-int4",
    BLOCKS_4_FINE: "int8-dynamic-embeddings-int4",
    CODEBOOK: "int8-dynamic-embeddings-codebook",
}
# Levels of a weight when this many share a byte.
_LEVELS = {2: 16, 3: 6}
# The one that TensorRT takes: signed, symmetric, zero points of zero, tables behind a DequantizeLinear.
TENSORRT_CANDIDATE = "tensorrt-symmetric"


def _dynamic(
    name: str,
    graph: Literal["plain", "fused"],
    embeddings: EmbeddingsConfig,
    *,
    per_channel: bool = True,
    reduce_range: bool = False,
    packed: PackedWeightsConfig | None = None,
) -> Candidate:
    products, _, tables = _TABLES[embeddings].partition("-embeddings-")
    if packed is not None:
        products += f"-weights-{_LEVELS[packed.group]}-levels"
    return Candidate(
        name=name,
        graph=graph,
        config=DynamicConfig(per_channel=per_channel, reduce_range=reduce_range, packed=packed),
        embeddings=embeddings,
        precision=f"{products}-embeddings-{tables}" if tables else products,
    )


def _packed(name: str, embeddings: EmbeddingsConfig, **how: Any) -> Candidate:
    packed = PackedWeightsConfig(**how)
    return _dynamic(name, "fused", embeddings, reduce_range=True, packed=packed)


CANDIDATES: tuple[Candidate, ...] = (
    Candidate(name="fp32", graph="plain", config=None, embeddings=None, precision="fp32"),
    Candidate(name="fp32-fused", graph="fused", config=None, embeddings=None, precision="fp32"),
    Candidate(
        name="fp32-fused-embeddings-int8",
        graph="fused",
        config=None,
        embeddings=ROWS_8,
        precision="fp32-embeddings-int8",
    ),
    _dynamic("dynamic-fused", "fused", ROWS_8),
    _dynamic("dynamic-fused-reduced", "fused", ROWS_8, reduce_range=True),
    _dynamic("dynamic-fused-tensor", "fused", ROWS_8, per_channel=False),
    _dynamic("dynamic-fused-tensor-reduced", "fused", ROWS_8, per_channel=False, reduce_range=True),
    _dynamic("dynamic-fused-int4", "fused", BLOCKS_4),
    _dynamic("dynamic-fused-reduced-int4", "fused", BLOCKS_4, reduce_range=True),
    _dynamic("dynamic-fused-reduced-int4-fine", "fused", BLOCKS_4_FINE, reduce_range=True),
    _dynamic("dynamic-fused-codebook", "fused", CODEBOOK),
    _dynamic("dynamic-fused-reduced-codebook", "fused", CODEBOOK, reduce_range=True),
    _packed("dynamic-fused-packed", BLOCKS_4),
    _packed("dynamic-fused-packed-rtn", BLOCKS_4, method="rtn"),
    _packed("dynamic-fused-packed-codebook", CODEBOOK),
    _packed("dynamic-fused-packed-six-levels", CODEBOOK, group=3),
    _dynamic("dynamic-plain", "plain", ROWS_8),
    _dynamic("dynamic-plain-reduced", "plain", ROWS_8, reduce_range=True),
    _dynamic("dynamic-plain-reduced-int4", "plain", BLOCKS_4, reduce_range=True),
    *(
        Candidate(
            name=f"nbits-plain-{method}",
            graph="plain",
            config=NBitsConfig(method=method),
            embeddings=BLOCKS_4,
            precision="int8-weights-int4-embeddings-int4",
        )
        for method in ("rtn", "hqq", "gptq", "awq")
    ),
    Candidate(
        name="static-plain",
        graph="plain",
        config=StaticConfig(),
        embeddings=ROWS_8,
        precision="int8-qdq",
    ),
    Candidate(
        name="static-plain-reduced",
        graph="plain",
        config=StaticConfig(reduce_range=True),
        embeddings=ROWS_8,
        precision="int8-qdq",
    ),
    Candidate(
        name="static-plain-percentile-reduced",
        graph="plain",
        config=StaticConfig(reduce_range=True, method="percentile"),
        embeddings=ROWS_8,
        precision="int8-qdq",
    ),
    Candidate(
        name="neural-compressor-static",
        graph="torch",
        config=NeuralCompressorConfig(),
        embeddings=ROWS_8,
        precision="int8-qdq",
        slow=True,
    ),
    # OpenVINO's IR stores what stays in float32 as float16.
    Candidate(
        name="openvino-fp32",
        graph="plain",
        config=None,
        embeddings=None,
        precision="fp32-weights-fp16",
        engine=OPENVINO,
    ),
    Candidate(
        name="openvino-static",
        graph="plain",
        config=StaticConfig(),
        embeddings=ROWS_8,
        precision="int8-static",
        engine=OPENVINO,
    ),
    Candidate(
        name="openvino-static-reduced",
        graph="plain",
        config=StaticConfig(reduce_range=True),
        embeddings=ROWS_8,
        precision="int8-static",
        engine=OPENVINO,
    ),
    Candidate(
        name="openvino-nncf",
        graph="plain",
        config=NncfConfig(),
        embeddings=None,
        precision="int8-static",
        engine=OPENVINO,
    ),
    Candidate(
        name="openvino-nncf-reduced",
        graph="plain",
        config=NncfConfig(reduce_range=True),
        embeddings=None,
        precision="int8-static",
        engine=OPENVINO,
    ),
    # For TensorRT alone: on a CPU, onnxruntime leaves many products of signed activations in float32.
    Candidate(
        name=TENSORRT_CANDIDATE,
        graph="plain",
        config=StaticConfig(activation_type="int8", symmetric=True),
        embeddings=DequantizedTablesConfig(),
        precision="int8-qdq",
    ),
)

# What a run measures when its recipe names none: every kind once, 7-bit weights beside 8-bit where it may matter.
# The rest is there to be named: MatMulNBits, which is slower for an encoder, per-tensor weights, finer int4 blocks,
# codebooks for a vocabulary kept whole, weights of six levels, and the one for TensorRT.
USUAL_CANDIDATES: tuple[str, ...] = (
    "fp32-fused",
    "dynamic-fused",
    "dynamic-fused-reduced",
    "dynamic-fused-int4",
    "dynamic-fused-reduced-int4",
    "dynamic-fused-packed",
    "dynamic-plain-reduced",
    "static-plain-reduced",
    "static-plain-percentile-reduced",
    "neural-compressor-static",
)
# What is measured beside them where OpenVINO is installed and the target takes it.
OPENVINO_CANDIDATES: tuple[str, ...] = tuple(c.name for c in CANDIDATES if c.engine == OPENVINO)


def candidate_by_name(name: str) -> Candidate:
    """The candidate of this name; ``InputError`` that suggests the nearest name when there is none."""
    import difflib

    for candidate in CANDIDATES:
        if candidate.name == name:
            return candidate
    names = [candidate.name for candidate in CANDIDATES]
    near = difflib.get_close_matches(name, names, n=1)
    raise InputError(
        f"there is no quantization candidate {name!r}",
        hint=f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}.",
    )


def quantize_candidate(
    name: str,
    *,
    graphs: Mapping[str, Path],
    output: Path,
    calibration: Feeds = (),
    model: torch.nn.Module | None = None,
    export: ExportModule | None = None,
) -> StepResult[Path]:
    """Make the candidate ``name`` and write it to the file ``output``, which ends in the candidate's ``suffix``.

    ``graphs`` holds the fp32 files that exist: "plain", "fused" or both. ``calibration`` are feeds of the
    graph, int64 [batch, sequence] by input name; candidates with ``needs_calibration`` want some. A
    candidate whose graph is "torch" wants ``model`` (in fp32) and ``export``, which writes a quantized
    module as ONNX (``pocketformer.export.onnx_export.export_module``).

    Metrics: those of the quantizers; what the embeddings' rewrite measured is prefixed ``embeddings_``;
    ``bytes`` is the final file, with its weights. Raises ``InputError`` when something that it needs is missing.
    """
    import shutil

    candidate = candidate_by_name(name)
    output.parent.mkdir(parents=True, exist_ok=True)
    work = output.with_name(f".{output.name}.products")
    rewritten = output.with_name(f".{output.name}.tables") if candidate.engine == OPENVINO else output
    metrics: dict[str, float] = {}
    notes: list[str] = []
    try:
        source = _products(candidate, graphs, work, calibration, model, export, metrics, notes)
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
        work.unlink(missing_ok=True)
        if rewritten != output:
            rewritten.unlink(missing_ok=True)
    metrics["bytes"] = float(sum(part.stat().st_size for part in graph_files(output)))
    return StepResult(output=output, metrics=metrics, notes=notes)


def _products(
    candidate: Candidate,
    graphs: Mapping[str, Path],
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
