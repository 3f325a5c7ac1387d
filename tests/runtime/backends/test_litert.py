"""LiteRT runs a bundle in the shortest signature that holds a text, and where it is absent that is said."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litert_file import write_litert_file

from pocketformer import load
from pocketformer.export.variant import GraphForm, write_variant
from pocketformer.runtime.backends.litert import LitertEngine, import_litert
from pocketformer.runtime.engine import open_engine
from pocketformer.runtime.errors import InputError, MissingDependencyError, VerificationError
from pocketformer.runtime.manifest import (
    MANIFEST_FILE,
    EngineNeed,
    SessionSettings,
    TensorSpec,
    read_manifest,
)
from pocketformer.runtime.verify import verify

ONE_THREAD = SessionSettings(intra_op_threads=1)
LENGTHS = (4, 8, 16)


@pytest.fixture(scope="module")
def installed() -> None:
    if importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip('needs LiteRT: pip install "pocketformer[litert]"')


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(128, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def file(installed: None, table: np.ndarray, tmp_path_factory: Any) -> Path:
    return write_litert_file(tmp_path_factory.mktemp("litert") / "model.tflite", table, LENGTHS)


@pytest.fixture(scope="module")
def bundle(file: Path, small_bundle: Path, tmp_path_factory: Any) -> Path:
    return write_variant(
        small_bundle,
        tmp_path_factory.mktemp("bundle") / "litert",
        GraphForm(
            graph=file,
            engine="litert",
            target="litert",
            inputs=(TensorSpec("input_ids", "int32"), TensorSpec("attention_mask", "int32")),
        ),
    )


def feeds(*lengths: int) -> dict[str, np.ndarray]:
    width = max(lengths)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.random.default_rng(width).integers(1, 128, (len(lengths), width))
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def expected(given: dict[str, np.ndarray], table: np.ndarray) -> np.ndarray:
    return (table[given["input_ids"]] * given["attention_mask"][..., None]).sum(1)


def test_it_computes_each_text_in_the_shortest_signature(file: Path, table: np.ndarray) -> None:
    engine = LitertEngine(file, ONE_THREAD)
    assert engine.lengths == LENGTHS
    assert set(engine.input_names) == {"input_ids", "attention_mask"}
    assert engine.output_name == "logits"
    assert engine.output_shape == (None, 3)
    for given in (feeds(1), feeds(4), feeds(5), feeds(16), feeds(3, 9, 1, 16)):
        answer = engine.run(given)
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected(given, table), atol=1e-5)
    used: list[int] = []
    for length, runner in engine._runners.items():
        engine._runners[length] = lambda _length=length, _run=runner, **values: (
            used.append(_length),
            _run(**values),
        )[1]
    engine.run(feeds(4, 5, 16))
    assert used == [4, 8, 16]


def test_a_text_that_is_too_long_is_refused(file: Path) -> None:
    engine = LitertEngine(file, ONE_THREAD)
    with pytest.raises(VerificationError, match="at most 16 tokens, and one has 17"):
        engine.run(feeds(17))
    incomplete = feeds(4)
    del incomplete["attention_mask"]
    with pytest.raises(InputError, match="attention_mask"):
        engine.run(incomplete)


def test_threads_do_not_get_each_others_answers(file: Path, table: np.ndarray) -> None:
    engine = LitertEngine(file, ONE_THREAD)
    inputs = [feeds(length) for length in range(1, 17)] * 4
    with ThreadPoolExecutor(4) as pool:
        for given, answer in zip(inputs, pool.map(engine.run, inputs), strict=True):
            np.testing.assert_allclose(answer, expected(given, table), atol=1e-5)


def test_a_bundle_can_ask_for_it(bundle: Path, tiny_texts: list[str], table: np.ndarray) -> None:
    report = verify(bundle)
    assert report.ok, report
    manifest = read_manifest(bundle)
    assert (manifest.engine, manifest.graph, manifest.target) == (
        EngineNeed("litert"),
        "model.tflite",
        "litert",
    )
    assert manifest.runtime["name"] == "litert"
    assert "pocketformer[litert]" in (bundle / "README.md").read_text(encoding="utf-8")
    model = load(bundle)
    np.testing.assert_allclose(
        model.logits(tiny_texts), expected(model.encode(tiny_texts), table), atol=1e-5, rtol=1e-5
    )
    damaged = shutil.copytree(bundle, bundle.with_name("damaged"))
    content = bytearray((damaged / "model.tflite").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (damaged / "model.tflite").write_bytes(content)
    assert not verify(damaged).ok


def test_signed_and_in_one_file_it_answers_alike(
    bundle: Path, key_pair: tuple[Path, Path], tmp_path: Path, tiny_texts: list[str]
) -> None:
    from pocketformer.export.archive import write_archive

    archive = tmp_path / "bundle.pfz"
    write_archive(bundle, archive, key_pair[0])
    assert verify(archive, key=key_pair[1]).ok
    assert load(archive, key=key_pair[1]).predict(tiny_texts) == load(bundle).predict(tiny_texts)
    made_of = json.loads((bundle / "sbom.cdx.json").read_text(encoding="utf-8"))["components"]
    assert {"ai-edge-litert"} <= {item["name"] for item in made_of if item.get("scope") == "required"}


def test_inputs_are_of_the_type_that_the_engine_takes(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    values = json.loads((copy / MANIFEST_FILE).read_text(encoding="utf-8"))
    values["inputs"][0]["dtype"] = "int64"
    (copy / MANIFEST_FILE).write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(VerificationError, match="must be 'int32'"):
        read_manifest(copy)
    values["engine"]["name"] = "onnxruntime"
    (copy / MANIFEST_FILE).write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(VerificationError, match="as its engine has it"):
        read_manifest(copy)


def test_what_cannot_be_loaded_is_an_error(file: Path, table: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "no.tflite").write_bytes(b"nothing of the kind")
    with pytest.raises(VerificationError, match="LiteRT cannot load"):
        LitertEngine(tmp_path / "no.tflite")
    other = write_litert_file(tmp_path / "other.tflite", table, (4,), prefix="serving_")
    with pytest.raises(VerificationError, match="no signature such as tokens_32"):
        LitertEngine(other)
    with pytest.raises(InputError, match="none of onnxruntime's CUDAExecutionProvider"):
        LitertEngine(file, SessionSettings(providers=("CUDAExecutionProvider",)))


def test_an_older_litert_is_refused(file: Path) -> None:
    need = EngineNeed("litert", "999.0")
    with pytest.raises(MissingDependencyError, match=r"needs LiteRT 999\.0 or newer"):
        open_engine(file, ONE_THREAD, need)
    assert open_engine(file, ONE_THREAD, EngineNeed("litert", "1.0")).output_shape == (None, 3)


def test_without_litert_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingDependencyError, match="cannot be imported") as caught:
        import_litert()
    assert "pocketformer[litert]" in (caught.value.hint or "")
    assert caught.value.exit_code == 4
