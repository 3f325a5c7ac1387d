from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.compress.quantize.candidates import CANDIDATES, Candidate, candidate_by_name
from pocketformer.compress.quantize.config import DynamicConfig, NBitsConfig
from pocketformer.compress.quantize.portfolio import quantize_candidate
from pocketformer.export.inspect_graph import inspect_graph
from pocketformer.export.onnx_export import export_module
from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.errors import AlreadyQuantizedError, InputError, ModelError
from pocketformer.runtime.manifest import ONNXRUNTIME

Feeds = list[Mapping[str, Any]]
# The tables of the tiny model, 12 kB, are below the size that is worth quantizing otherwise.
FAST = [candidate.name for candidate in CANDIDATES if not candidate.slow and candidate.engine == ONNXRUNTIME]


@pytest.fixture(autouse=True)
def _tiny_tables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from pocketformer.compress.quantize import candidates

    def shrunken(candidate: Candidate) -> Candidate:
        if candidate.embeddings is not None:
            candidate = replace(candidate, embeddings=replace(candidate.embeddings, smallest_bytes=1024))
        if isinstance(candidate.config, NBitsConfig):
            candidate = replace(candidate, config=replace(candidate.config, smallest=64))
        packed = candidate.config.packed if isinstance(candidate.config, DynamicConfig) else None
        if packed is not None:
            config = replace(candidate.config, packed=replace(packed, smallest=64))
            candidate = replace(candidate, config=config)
        return candidate

    shrunk = tuple(shrunken(candidate) for candidate in CANDIDATES)
    monkeypatch.setattr(candidates, "CANDIDATES", shrunk)


@pytest.mark.parametrize("name", FAST)
def test_every_candidate_runs_close_to_fp32_and_is_what_it_says(
    name: str, graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    result = quantize_candidate(name, graphs=graphs, output=tmp_path / "q.onnx", calibration=feeds)
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert result.metrics["bytes"] == result.output.stat().st_size
    expected = OnnxRuntimeEngine(graphs["plain"])
    actual = OnnxRuntimeEngine(result.output)
    differences = np.concatenate([(actual.run(feed) - expected.run(feed)).ravel() for feed in feeds])
    spread = np.concatenate([expected.run(feed).ravel() for feed in feeds]).std()
    candidate = candidate_by_name(name)
    plain = candidate.config is None and candidate.embeddings is None
    assert np.sqrt((differences**2).mean()) < (1e-5 if plain else 0.35 * spread)
    assert inspect_graph(result.output).precision == candidate.precision
    if candidate.config is not None:
        assert result.metrics["quantized_products"] >= 3 * 4 + 2
        weights = sum(inspect_graph(result.output).initializer_bytes.values())
        assert weights < sum(inspect_graph(graphs["plain"]).initializer_bytes.values()) / 2


def test_reduced_range_keeps_weights_to_seven_bits(graphs: dict[str, Path], tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    def largest(name: str) -> int:
        path = quantize_candidate(name, graphs=graphs, output=tmp_path / f"{name}.onnx").output
        weights = [
            np.abs(numpy_helper.to_array(item).astype(np.int16)).max()
            for item in onnx.load(str(path)).graph.initializer
            if item.name.endswith("_quantized") and item.data_type == onnx.TensorProto.INT8
        ]
        return int(max(weights))

    assert largest("dynamic-fused") > 64
    assert largest("dynamic-fused-reduced") <= 64


def test_names_are_unique_and_a_wrong_one_gets_a_suggestion() -> None:
    names = [candidate.name for candidate in CANDIDATES]
    assert len(set(names)) == len(names)
    with pytest.raises(InputError) as caught:
        candidate_by_name("dynamic-fusd")
    assert "Did you mean 'dynamic-fused'?" in str(caught.value)


def test_what_a_candidate_needs_is_asked_for(graphs: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "q.onnx"
    with pytest.raises(InputError, match="needs calibration texts"):
        quantize_candidate("static-plain", graphs=graphs, output=output)
    with pytest.raises(InputError, match="starts from the fused graph"):
        quantize_candidate("dynamic-fused", graphs={"plain": graphs["plain"]}, output=output)
    with pytest.raises(InputError, match="quantizes the torch model"):
        quantize_candidate("neural-compressor-static", graphs=graphs, output=output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["fp32", "dynamic-plain", "static-plain"])
def test_a_quantized_graph_is_recognised(
    name: str, graphs: dict[str, Path], feeds: Feeds, tmp_path: Path
) -> None:
    once = quantize_candidate("dynamic-plain", graphs=graphs, output=tmp_path / "q.onnx").output
    with pytest.raises(AlreadyQuantizedError, match=r"q\.onnx is quantized already"):
        quantize_candidate(name, graphs={"plain": once}, output=tmp_path / "qq.onnx", calibration=feeds)
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing like a graph")
    with pytest.raises(ModelError, match=r"m\.onnx"):
        quantize_candidate("dynamic-plain", graphs={"plain": tmp_path / "m.onnx"}, output=tmp_path / "q.onnx")


def test_the_list_of_candidates_imports_nothing_heavy() -> None:
    code = (
        "import sys, pocketformer.compress.quantize.candidates as p; p.CANDIDATES; "
        "heavy = {'torch', 'onnx', 'onnxruntime', 'transformers', 'neural_compressor'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow  # its observers and torch.export take about 20 seconds whatever the model's size
def test_neural_compressor_quantizes_a_copy_and_exports_int8(
    pruned_model: Any,
    graphs: dict[str, Path],
    feeds: Feeds,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = {name: value.clone() for name, value in pruned_model.state_dict().items()}
    capfd.readouterr()
    result = quantize_candidate(
        "neural-compressor-static",
        graphs={},
        output=tmp_path / "q.onnx",
        calibration=feeds,
        model=pruned_model,
        export=export_module,
    )
    assert capfd.readouterr() == ("", "")
    assert all((value == before[name]).all() for name, value in pruned_model.state_dict().items())
    assert inspect_graph(result.output).precision == "int8-qdq"
    assert result.metrics["quantized_products"] >= 3 * 6
    expected, actual = OnnxRuntimeEngine(graphs["plain"]), OnnxRuntimeEngine(result.output)
    shapes = [feeds[0], {name: value[:1, :3] for name, value in feeds[1].items()}]
    for feed in shapes:
        spread = expected.run(feeds[0]).std()
        assert np.sqrt(((actual.run(feed) - expected.run(feed)) ** 2).mean()) < 0.35 * spread
