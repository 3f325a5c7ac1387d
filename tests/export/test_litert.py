"""LiteRT by its own converter, where that is installed: the answers of ONNX in float32, nearly those in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pocketformer import load
from pocketformer.export import litert
from pocketformer.export.litert import require_litert, signature_lengths
from pocketformer.runtime.errors import MissingDependencyError
from pocketformer.runtime.manifest import read_manifest


def test_lengths_double_up_to_the_longest() -> None:
    assert signature_lengths(128) == (16, 32, 64, 128)
    assert signature_lengths(100) == (16, 32, 64, 100)
    assert signature_lengths(16) == (16,)
    assert signature_lengths(4) == (4,)


def test_without_the_converter_nothing_is_begun(
    cli_json: Any,
    tiny_model_dir: Path,
    tiny_files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib import util

    real = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *rest: None if name == "litert_torch" else real(name, *rest)
    )
    with pytest.raises(MissingDependencyError, match="litert-torch") as caught:
        require_litert()
    assert 'pip install "pocketformer[litert-export]"' in (caught.value.hint or "")
    out = tmp_path / "out"
    code, _ = cli_json("export", tiny_model_dir, "--format", "litert", "--train", tiny_files[0], "-o", out)
    assert code == 4
    assert not out.exists()


def test_a_precision_that_it_has_not_is_refused(cli_json: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    arguments = ("export", tiny_model_dir, "--format", "litert", "--precision")
    assert cli_json(*arguments, "fp16", "-o", tmp_path / "out")[0] == 2
    assert cli_json("export", tiny_model_dir, "--precision", "int8", "-o", tmp_path / "out")[0] == 2


@pytest.mark.slow
@pytest.mark.litert_export
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_model_becomes_a_bundle(
    precision: str,
    cli_json: Any,
    tiny_model_dir: Path,
    tiny_files: tuple[Path, Path],
    tiny_texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(litert, "_SHORTEST", 8)
    out = tmp_path / "out"
    code, result = cli_json(
        "export", tiny_model_dir, "--format", "litert", "--precision", precision, "--train", tiny_files[0],
        "--max-length", 16, "--threads", 1, "-o", out,
    )  # fmt: skip
    assert code == 0
    (stage,) = (stage for stage in result["stages"] if stage["name"] == "litert")
    assert stage["metrics"]["same_label"] >= 0.95
    assert stage["metrics"]["max_abs_difference"] < (1e-4 if precision == "fp32" else 0.2)
    bundle = out / "bundles" / "litert"
    manifest = read_manifest(bundle)
    assert (manifest.engine.name, manifest.graph) == ("litert", "model.tflite")
    assert manifest.precision == {"fp32": "fp32", "int8": "int8-dynamic"}[precision]
    assert {spec.dtype for spec in manifest.inputs} == {"int32"}
    assert cli_json("verify", bundle)[0] == 0
    assert load(bundle).engine.lengths == (8, 16)  # type: ignore[attr-defined]
    assert load(bundle).predict(tiny_texts[:1])[0].label in manifest.postprocessing.labels
    assert cli_json("inspect", bundle)[1]["lengths"] == [8, 16]
