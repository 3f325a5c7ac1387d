"""Graphs for OpenVINO: an ONNX file as its IR, and int8 by NNCF, its quantizer.

Sources: docs.openvino.ai, "Convert to OpenVINO IR" and "Basic Quantization Flow"; github.com/openvinotoolkit/nncf. Both
packages come with ``openvino-telemetry``, which reports to its maker unless it is told not to: it is kept out.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.compress.quantize.config import NncfConfig
from pocketformer.runtime.errors import MissingDependencyError, ModelError
from pocketformer.runtime.manifest import graph_files
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TELEMETRY = "openvino_telemetry"


def write_openvino(
    graph: Path,
    output: Path,
    config: object = None,
    calibration: Sequence[Mapping[str, NDArray[np.int64]]] = (),
) -> StepResult[Path]:
    """Write the ONNX file ``graph`` as OpenVINO IR: ``output`` (.xml) and its weights beside it (.bin).

    Float32 weights are stored as float16. With an ``NncfConfig`` NNCF quantizes first, calibrated on the feeds
    ``calibration``, int64 [batch, sequence] by input name; any other ``config`` was carried out in the graph already.
    Metrics: ``calibration_rows``. Raises ``MissingDependencyError`` without OpenVINO or NNCF, ``ModelError`` when they
    fail on the graph; nothing is left then.
    """
    from pocketformer.runtime.backends.openvino import import_openvino

    metrics: dict[str, float] = {}
    with _no_telemetry():
        module = import_openvino()
        try:
            model = module.Core().read_model(str(graph))
            if isinstance(config, NncfConfig):
                rows = _single_rows(calibration, config.rows)
                model = _quantize(model, rows, config)
                metrics["calibration_rows"] = float(len(rows))
            module.save_model(model, str(output))
        except MissingDependencyError:
            raise
        except Exception as error:  # what their passes meet
            for part in graph_files(output):
                part.unlink(missing_ok=True)
            told = " ".join(str(error).split())[:400]
            raise ModelError(
                f"OpenVINO could not take {graph}: {told}", hint="Try another candidate."
            ) from error
    return StepResult(output=output, metrics=metrics)


def _quantize(model: Any, rows: Sequence[Mapping[str, Any]], config: NncfConfig) -> Any:
    try:
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    except ImportError as error:
        raise MissingDependencyError(
            f"this candidate needs NNCF: {error}", hint='Install it: pip install "pocketformer[nncf]".'
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    fix = OverflowFix.ENABLE if config.reduce_range else OverflowFix.FIRST_LAYER
    with redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(list(rows)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(rows),
            advanced_parameters=AdvancedQuantizationParameters(overflow_fix=fix),
        )


def _single_rows(
    feeds: Sequence[Mapping[str, NDArray[np.int64]]], most: int
) -> list[dict[str, NDArray[np.int64]]]:
    """The rows of padded batches one by one and without their padding: NNCF averages ranges over a batch's rows."""
    rows = []
    for batch in feeds:
        count, longest = next(iter(batch.values())).shape
        mask = batch.get("attention_mask")
        for row in range(count):
            length = int(mask[row].sum()) if mask is not None else longest
            rows.append({name: value[row : row + 1, :length] for name, value in batch.items()})
    return rows[:most]


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Let OpenVINO and NNCF be imported as if their telemetry were not installed, which both allow for."""
    absent = object()
    before = sys.modules.get(_TELEMETRY, absent)
    variable = os.environ.get("NNCF_CI")
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    os.environ["NNCF_CI"] = "1"  # the same for NNCF where the package had been imported before
    try:
        yield
    finally:
        if before is absent:
            sys.modules.pop(_TELEMETRY, None)
        else:
            sys.modules[_TELEMETRY] = before  # type: ignore[assignment]
        if variable is None:
            os.environ.pop("NNCF_CI", None)
        else:
            os.environ["NNCF_CI"] = variable
