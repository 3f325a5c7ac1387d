"""Latency tables on disk: one small JSON file for each processor, runtime, session and kind of model.

A file is found by a hash of all that its figures depend on, so a table of another machine, another onnxruntime or
another number of threads is never taken for this one's. It is written whole or not at all; one that is damaged, or of
another format, counts as none and is measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pocketformer.runtime.manifest import SessionSettings
from pocketformer.targets.latency_table import BlockCosts, Curve, LatencyTable
from pocketformer.targets.probe import probe_cpu

FORMAT = 1
"""Rises when tables are measured or written in another way."""
_CURVES = ("attention", "ffn", "last_attention", "last_ffn")


def measured_on(settings: SessionSettings, model: Mapping[str, Any]) -> dict[str, Any]:
    """All that a table's figures depend on: this processor, onnxruntime, the session and what ``model`` says.

    ``settings`` name the number of threads that is really used, so that 0 (all cores) and that number are one.
    """
    import onnxruntime as ort

    from pocketformer.runtime.engine import available_cores

    probe = probe_cpu()
    session = asdict(settings) | {"intra_op_threads": settings.intra_op_threads or available_cores()}
    session["providers"] = list(settings.providers)
    return {
        "format": FORMAT,
        "processor": {
            "model": probe["model"],
            "architecture": probe["architecture"],
            "flags": sorted(name for name, present in probe["flags"].items() if present),
        },
        "threads": session["intra_op_threads"],
        "onnxruntime": ort.__version__,
        "session": session,
        "model": dict(model),
    }


def table_path(folder: Path, about: Mapping[str, Any]) -> Path:
    """The file in ``folder`` of the table that holds for ``about``."""
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return folder / f"{key}.json"


def read_table(folder: Path, about: Mapping[str, Any]) -> LatencyTable | None:
    """The table that was measured for ``about``; None when there is none, or none that can be read."""
    try:
        document = json.loads(table_path(folder, about).read_text(encoding="utf-8"))
        if document["about"] != json.loads(json.dumps(about)):
            return None
        return LatencyTable(costs=_costs_from(document["costs"]), about=dict(about))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_table(folder: Path, table: LatencyTable) -> Path:
    """Write ``table`` whole or not at all; where it lies."""
    path = table_path(folder, table.about)
    folder.mkdir(parents=True, exist_ok=True)
    # Its own name, for two processes may measure the same table.
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(table_to_dict(table), indent=1) + "\n")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def table_to_dict(table: LatencyTable) -> dict[str, Any]:
    """Plain values for JSON: ``about``, and ``costs`` in ms by precision and shape ("8x128")."""
    return {
        "about": dict(table.about),
        "costs": {
            precision: {
                f"{batch}x{sequence}": _costs_to(costs) for (batch, sequence), costs in by_shape.items()
            }
            for precision, by_shape in table.costs.items()
        },
    }


def _costs_to(costs: BlockCosts) -> dict[str, Any]:
    curves = {name: [list(point) for point in getattr(costs, name).points] for name in _CURVES}
    return {"fixed_ms": costs.fixed_ms, "layer_ms": costs.layer_ms, **curves}


def _costs_from(document: Mapping[str, Any]) -> dict[str, dict[tuple[int, int], BlockCosts]]:
    found: dict[str, dict[tuple[int, int], BlockCosts]] = {}
    for precision, by_shape in document.items():
        found[precision] = {}
        for shape, values in by_shape.items():
            batch, sequence = (int(part) for part in shape.split("x"))
            curves = {name: Curve(tuple((int(w), float(c)) for w, c in values[name])) for name in _CURVES}
            found[precision][batch, sequence] = BlockCosts(
                fixed_ms=float(values["fixed_ms"]), layer_ms=float(values["layer_ms"]), **curves
            )
    if not found:
        raise ValueError("a table without costs")
    return found
