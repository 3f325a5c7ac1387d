"""Static int8 by onnxruntime: ranges of activations from calibration, Q/DQ nodes in the graph."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.compress.quantize.config import StaticConfig
from pocketformer.compress.quantize.graph_state import load, load_unquantized, save
from pocketformer.compress.quantize.onnxruntime_dynamic import product_metrics, quiet
from pocketformer.runtime.errors import InputError, ModelError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OPERATORS = ("MatMul", "Gemm")


def quantize_static(
    graph: Path,
    output: Path,
    config: StaticConfig,
    calibration: Sequence[Mapping[str, NDArray[np.int64]]] = (),
) -> StepResult[Path]:
    """Write the static int8 form of the plain fp32 ``graph``, calibrated on the feeds ``calibration``.

    Only products with constant weights are quantized: those between activations inside attention lose
    accuracy and little else. Metrics as ``quantize_dynamic``, and ``calibration_batches``. Raises
    ``InputError`` without calibration feeds, else as ``quantize_dynamic``.
    """
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as onnxruntime_quantize

    if not calibration:
        raise InputError("static quantization needs calibration texts", hint="Pass training texts.")
    feeds: list[Mapping[str, Any]] = list(calibration[: config.calibration_batches])
    if config.method != "minmax":
        feeds = _of_one_shape(feeds)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[Mapping[str, Any]] = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            found = next(self._feeds, None)
            return None if found is None else dict(found)

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    types = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    extra: dict[str, Any] = {"DefaultTensorType": 1}
    if config.method == "percentile":
        extra["CalibPercentile"] = config.percentile
    model = load_unquantized(graph)
    # The option MatMulConstBOnly would say it shorter, but onnxruntime heeds it in dynamic quantization alone.
    excluded = [*_products_between_activations(model), *config.float_products]
    if config.symmetric:
        extra |= {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
        extra["OpTypesToExcludeOutputQuantization"] = list(_OPERATORS)
    del model.graph.value_info[:]
    output.parent.mkdir(parents=True, exist_ok=True)
    with quiet(), redirect_stdout(io.StringIO()):  # the histogram calibrators print
        try:
            onnxruntime_quantize(
                model,
                str(output),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_OPERATORS),
                nodes_to_exclude=excluded,
                per_channel=config.per_channel,
                reduce_range=config.reduce_range,
                activation_type=types[config.activation_type],
                weight_type=types[config.weight_type],
                calibrate_method=methods[config.method],
                extra_options=extra,
            )
        except Exception as error:  # the quantizer raises whatever its passes meet
            output.unlink(missing_ok=True)
            raise ModelError(
                f"onnxruntime could not quantize {graph}: {error}", hint="Try another candidate."
            ) from error
    quantized = load(output)
    save(quantized, output)
    metrics = product_metrics(quantized, output)
    metrics["calibration_batches"] = float(len(feeds))
    return StepResult(output=output, metrics=metrics)


def _products_between_activations(model: Any) -> list[str]:
    """Names of products whose second factor is no weight, as in attention; they get names where they have none."""
    weights = {item.name for item in model.graph.initializer}
    found = []
    for number, node in enumerate(model.graph.node):
        if node.op_type in _OPERATORS and node.input[1] not in weights:
            node.name = node.name or f"product_{number}"
            found.append(node.name)
    return found


def _of_one_shape(feeds: Sequence[Mapping[str, NDArray[np.int64]]]) -> list[Mapping[str, NDArray[np.int64]]]:
    """Pad all feeds on the right, masked, to the longest, and repeat rows up to the largest batch.

    onnxruntime's histogram calibrators stack the activations of all feeds into one array.
    """
    import numpy as np

    shapes = [next(iter(feed.values())).shape for feed in feeds]
    rows, length = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    return [
        {
            name: np.resize(np.pad(value, ((0, 0), (0, length - value.shape[1]))), (rows, length))
            for name, value in feed.items()
        }
        for feed in feeds
    ]
