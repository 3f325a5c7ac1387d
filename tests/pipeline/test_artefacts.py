from __future__ import annotations

from pathlib import Path

from pocketformer.pipeline.artefacts import Artefacts


def test_an_engine_stands_beside_what_ships(tmp_path: Path) -> None:
    before = Artefacts(model=tmp_path / "model", graph=tmp_path / "g.onnx", quantized=tmp_path / "q.onnx")
    built = before.with_made({"engine": "model.engine"}, tmp_path)
    assert (built.quantized, built.engine) == (before.quantized, tmp_path / "model.engine")
    assert built.with_made({"quantized": "q.onnx", "bundle": "b"}, tmp_path).engine == built.engine
    assert built.with_made({"graph": "g.onnx"}, tmp_path).engine is None
    assert built.with_made({"model": "model"}, tmp_path).engine is None
    assert Artefacts.from_json(built.to_json(tmp_path), tmp_path) == built
