"""Six architectures, small and with random weights, in every precision: typed, compared with fp32, built for one GPU.

The other GPUs are the evidence's (`make evidence-devices`): they differ in what the builder knows of a GPU, not in
what happens here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from evidence.architectures import ARCHITECTURES, Size, make_feeds, write_architecture, write_pruned

from pocketformer.compress.quantize.candidates import TENSORRT_CANDIDATE
from pocketformer.compress.quantize.portfolio import quantize_candidate
from pocketformer.export.tensorrt.build import build_engine
from pocketformer.export.tensorrt.typed_graph import agreement, write_typed_graph
from pocketformer.runtime.tensorrt.config import PRECISIONS, EngineConfig, Precision, Profile
from pocketformer.runtime.tensorrt.layers import read_layers, what_is_missing
from pocketformer.runtime.tensorrt.library import Library

pytestmark = pytest.mark.slow

_SIZE = Size(hidden=32, inner=48)
_CONFIG = EngineConfig(compute_capabilities=("8.9",), profile=Profile(batch=(1, 2, 4), sequence=(1, 16, 64)))
# Of outputs about 1 in size; those of T5, which does not scale its products, are about 20.
_TOLERANCES = {"fp32": 0.0, "fp16": 0.02, "int8": 0.3, "int8-fp16": 0.3}


@pytest.fixture(scope="module", params=(*ARCHITECTURES, "pruned"))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The fp32 graph of an architecture, its int8 form, and inputs of several shapes."""
    folder = tmp_path_factory.mktemp(request.param)
    write = write_pruned if request.param == "pruned" else write_architecture
    plain = write(request.param, folder / "fp32.onnx", _SIZE)
    feeds = make_feeds(plain)
    quantized = quantize_candidate(
        TENSORRT_CANDIDATE, graphs={"plain": plain}, output=folder / "q.onnx", calibration=feeds
    ).output
    return {"plain": plain, "int8": quantized, "feeds": feeds}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_architecture_becomes_an_engine_that_shows_its_precision(
    precision: Precision, family: Mapping[str, Any], library: Library, tmp_path: Path
) -> None:
    source = family["int8" if precision.startswith("int8") else "plain"]
    typed = write_typed_graph(source, tmp_path / "typed.onnx", fp16=precision.endswith("fp16")).output
    near = agreement(family["plain"], typed, family["feeds"])
    assert near.max_abs_difference <= _TOLERANCES[precision], near
    engine = build_engine(typed, tmp_path / "model.engine", _CONFIG, library=library)
    assert what_is_missing(read_layers(engine.output), precision) is None
    assert not any("do not show" in note for note in engine.notes)
