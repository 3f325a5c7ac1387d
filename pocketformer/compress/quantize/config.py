"""Settings of the quantizers; importing them needs neither torch nor onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PackedWeightsConfig:
    """int8 weights stored in less, expanded while the graph is loaded: see ``packed_weights``.

    ``group`` weights share a byte: 2 have 16 levels each (4 bits), 3 have 6 (2.67 bits). ``method`` "rtn" takes the
    nearest levels, "gptq" wants calibration and makes up for rounding; ``damping`` is its own. Products of fewer than
    ``smallest`` weights stay int8.
    """

    group: Literal[2, 3] = 2
    method: Literal["rtn", "gptq"] = "gptq"
    damping: float = 0.01
    smallest: int = 4096

    @property
    def needs_calibration(self) -> bool:
        """Whether it takes second moments of activations on texts."""
        return self.method == "gptq"


@dataclass(frozen=True, kw_only=True)
class NBitsConfig:
    """4-bit weights that stay packed while they run: onnxruntime's MatMulNBits, see ``nbits``.

    ``block_size`` rows of a column share a scale, and a zero point unless ``symmetric``. ``accuracy_level`` 4 quantizes
    activations to int8 for the product, 1 computes in float32. ``method`` "gptq" and "awq" want calibration;
    ``damping`` is GPTQ's. Products of fewer than ``smallest`` weights stay float32.
    """

    method: Literal["rtn", "hqq", "gptq", "awq"] = "gptq"
    block_size: Literal[32, 64, 128] = 32
    symmetric: bool = False
    accuracy_level: Literal[1, 4] = 4
    damping: float = 0.01
    smallest: int = 4096

    @property
    def needs_calibration(self) -> bool:
        """Whether it takes second moments of activations on texts."""
        return self.method in ("gptq", "awq")


@dataclass(frozen=True, kw_only=True)
class DynamicConfig:
    """int8 weights, activations quantized to uint8 while running: no calibration but for ``packed`` by GPTQ.

    ``per_channel`` gives each output column its own scale. ``reduce_range`` keeps weights to 7 bits: on
    x86 without VNNI the products of uint8 and int8 are added in pairs into 16 bits, which saturate
    otherwise. ``packed`` stores weights in fewer bits; they have 7 then. ``float_products``: names of the nodes that
    stay in float32.
    """

    per_channel: bool = True
    reduce_range: bool = False
    weight_type: Literal["int8", "uint8"] = "int8"
    float_products: tuple[str, ...] = ()
    packed: PackedWeightsConfig | None = None


@dataclass(frozen=True, kw_only=True)
class StaticConfig:
    """int8 weights and activations with ranges fixed by calibration, as QuantizeLinear/DequantizeLinear.

    ``method`` is how ranges are chosen from the calibration's activations; ``percentile`` is what share
    of them the range covers for method "percentile", in percent. ``calibration_batches`` is the largest
    number of feeds that are run. ``symmetric`` is what TensorRT takes: activations have the zero point 0,
    and biases, products' outputs and products between activations stay in float32. ``float_products``: names of the
    nodes that stay in float32.
    """

    per_channel: bool = True
    reduce_range: bool = False
    activation_type: Literal["int8", "uint8"] = "uint8"
    weight_type: Literal["int8", "uint8"] = "int8"
    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    percentile: float = 99.99
    calibration_batches: int = 32
    symmetric: bool = False
    float_products: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NeuralCompressorConfig:
    """neural-compressor's static path: PyTorch 2 export, observers, int8 QuantizeLinear/DequantizeLinear.

    ``activation_symmetric`` is what engines want that take only zero zero-points.
    """

    activation_type: Literal["int8", "uint8"] = "uint8"
    activation_symmetric: bool = False
    per_channel: bool = True
    calibration_batches: int = 32


@dataclass(frozen=True, kw_only=True)
class SmoothingConfig:
    """SmoothQuant before the products are quantized (see ``smoothing``).

    ``strengths`` are tried for each tensor, and no smoothing beside them. ``reduce_range``: the weights will have 7
    bits. ``calibration_batches`` is the largest number of feeds that are run, ``rows`` how many tokens of them judge a
    strength.
    """

    strengths: tuple[float, ...] = (0.3, 0.5, 0.65, 0.8)
    reduce_range: bool = False
    calibration_batches: int = 8
    rows: int = 256


@dataclass(frozen=True, kw_only=True)
class NncfConfig:
    """NNCF's post-training quantization for OpenVINO: SmoothQuant, int8 weights per channel, bias correction.

    ``reduce_range`` keeps all weights to 7 bits, as in ``DynamicConfig``; else NNCF itself does so in the first layer.
    ``rows`` is the largest number of calibration texts that are run.
    """

    reduce_range: bool = False
    rows: int = 300


@dataclass(frozen=True, kw_only=True)
class EmbeddingsConfig:
    """Embedding tables as codes with scales, looked up first and expanded afterwards.

    ``bits`` is 8 or 4, for the word table; position and type tables, which are small and read in every
    text, take 8 bits, and tables under ``smallest_bytes`` stay as they are. ``block_size`` columns share a
    scale; None means a whole row. With 8 bits and whole rows the graph uses standard operators only; else
    com.microsoft GatherBlockQuantized, which wants a power of 2 of at least 16. ``grid`` is how many clipped
    ranges are tried for each scale (see ``embeddings_core``). ``half_scales`` stores scales as float16.

    ``codebook_group`` stores the word table in another way: that many columns share one 8-bit code into a
    codebook (see ``codebook_core``), 2.67 bits a column at 3. It takes standard operators only, and
    ``bits``, ``block_size`` and ``symmetric`` then speak of the other tables alone.
    """

    bits: Literal[4, 8] = 8
    block_size: int | None = None
    symmetric: bool = True
    grid: int = 16
    half_scales: bool = False
    smallest_bytes: int = 8192
    codebook_group: int | None = None


@dataclass(frozen=True, kw_only=True)
class DequantizedTablesConfig:
    """Embedding tables as int8 rows before a DequantizeLinear, for TensorRT; smaller tables stay as they are."""

    smallest_bytes: int = 8192
