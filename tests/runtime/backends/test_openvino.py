"""OpenVINO runs what onnxruntime runs, a bundle can ask for it, and where it is absent that is said with what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pocketformer import load
from pocketformer.runtime.backends.openvino import OpenvinoEngine, import_openvino
from pocketformer.runtime.engine import OnnxRuntimeEngine, open_engine
from pocketformer.runtime.errors import InputError, MissingDependencyError, VerificationError
from pocketformer.runtime.manifest import (
    MANIFEST_FILE,
    EngineNeed,
    SessionSettings,
    graph_files,
    read_manifest,
)
from pocketformer.runtime.verify import verify

ONE_THREAD = SessionSettings(intra_op_threads=1)


def feeds(batch: int, sequence: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(batch + sequence).integers(1, 40, (batch, sequence))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


@pytest.fixture(scope="module")
def engine(tiny_graph: Path, openvino: None) -> OpenvinoEngine:
    return OpenvinoEngine(tiny_graph, ONE_THREAD)


def test_it_answers_as_onnxruntime_for_any_shape(engine: OpenvinoEngine, tiny_graph: Path) -> None:
    reference = OnnxRuntimeEngine(tiny_graph, ONE_THREAD)
    assert engine.input_names == reference.input_names
    assert engine.output_name == "logits"
    assert engine.output_shape[1] == 3
    for batch, sequence in ((1, 1), (3, 9), (8, 64)):
        given = feeds(batch, sequence)
        answer = engine.run({**given, "position_ids": np.zeros(1)})
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, reference.run(given), atol=1e-5)


def test_an_answer_is_not_overwritten_by_the_next(engine: OpenvinoEngine) -> None:
    first = engine.run(feeds(2, 5))
    kept = first.copy()
    engine.run(feeds(2, 7))
    assert (first == kept).all()


def test_inputs_may_be_read_only_and_in_any_order_in_memory(engine: OpenvinoEngine) -> None:
    plain = feeds(3, 5)
    locked = {name: np.asfortranarray(value) for name, value in plain.items()}
    for value in locked.values():
        value.flags.writeable = False
    np.testing.assert_array_equal(engine.run(locked), engine.run(plain))


def test_threads_do_not_get_each_others_answers(engine: OpenvinoEngine) -> None:
    inputs = [feeds(1, length) for length in range(1, 33)]
    expected = [engine.run(item) for item in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for got, wanted in zip(pool.map(engine.run, inputs), expected, strict=True):
                np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_what_cannot_be_run_is_an_error_with_shapes(engine: OpenvinoEngine) -> None:
    incomplete = feeds(1, 4)
    del incomplete["attention_mask"]
    with pytest.raises(InputError, match="attention_mask"):
        engine.run(incomplete)
    with pytest.raises(VerificationError, match=r"input_ids \[1, 65\] int64"):
        engine.run(feeds(1, 65))  # the tiny model has 64 positions
    wrong = feeds(1, 4)
    wrong["input_ids"] = wrong["input_ids"].astype(np.int32)
    with pytest.raises(VerificationError, match="int32"):
        engine.run(wrong)
    assert engine.run(feeds(1, 4)).shape == (1, 3)


def test_what_cannot_be_loaded_is_told(tiny_graph: Path, openvino: None, tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(tiny_graph.read_bytes()[:500])
    with pytest.raises(VerificationError, match="cannot load"):
        OpenvinoEngine(broken)
    with pytest.raises(InputError, match="CUDAExecutionProvider"):
        OpenvinoEngine(tiny_graph, SessionSettings(providers=("CUDAExecutionProvider",)))


def test_without_openvino_the_way_to_get_it_is_told(
    tiny_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError) as caught:
        open_engine(tiny_graph, ONE_THREAD, EngineNeed("openvino"))
    assert caught.value.exit_code == 4
    assert 'pip install "pocketformer[openvino]"' in str(caught.value)


@pytest.mark.parametrize(
    ("installed", "needed", "enough"),
    [
        ("2024.6.0-17404-4c0f47d", "2024.6", True),
        ("2024.10.0-1-abc", "2024.6", True),
        ("2023.3.0-13775-ceeafaf", "2024.0", False),
    ],
)
def test_too_old_an_openvino_is_refused(
    installed: str, needed: str, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(__version__=installed))
    if enough:
        assert import_openvino(needed).__version__ == installed
        return
    with pytest.raises(MissingDependencyError, match=f"{needed} or newer, and {installed}"):
        import_openvino(needed)


def test_a_bundle_for_openvino_predicts_and_verifies(openvino_bundle: Path, small_bundle: Path) -> None:
    manifest = read_manifest(openvino_bundle)
    assert manifest.graph == "model.xml"
    assert manifest.engine == EngineNeed("openvino", "2022.1")
    assert {part.name for part in graph_files(Path(manifest.graph))} <= set(manifest.files)
    assert manifest.runtime["name"] == "openvino"
    model = load(openvino_bundle)
    assert model.engine.providers == ("OpenVINO",)
    texts = ["the cat purrs ?", "who is the king of paris ?"]
    # Its weights are stored as float16.
    np.testing.assert_allclose(model.logits(texts), load(small_bundle).logits(texts), atol=2e-3)
    assert verify(openvino_bundle).ok


def test_an_archive_with_a_key_is_read_from_memory(
    openvino_bundle: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    from pocketformer.export.archive import write_archive

    private, public = key_pair
    write_archive(openvino_bundle, tmp_path / "b.pfz", private)
    assert verify(tmp_path / "b.pfz", key=public).ok
    assert load(tmp_path / "b.pfz", key=public).predict_one("a cat") == load(openvino_bundle).predict_one(
        "a cat"
    )


def test_damaged_weights_are_found(openvino_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(openvino_bundle, tmp_path / "bundle"))
    weights = copy / "model.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    report = verify(copy)
    assert not report.ok
    assert "model.bin has another SHA-256" in next(c.detail for c in report.checks if c.name == "files")
    document = json.loads((copy / MANIFEST_FILE).read_text())
    del document["files"]["model.bin"]
    (copy / MANIFEST_FILE).write_text(json.dumps(document))
    with pytest.raises(VerificationError, match="the weights of graph"):
        read_manifest(copy)


def test_signals_are_handled_after_engines_have_gone(tiny_graph: Path, openvino: None) -> None:
    """Also when the first to come was the first to go."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from pocketformer.runtime.backends.openvino import OpenvinoEngine\n"
        "graph = Path(sys.argv[1])\n"
        "first = OpenvinoEngine(graph)\n"
        "second = OpenvinoEngine(graph)\n"
        "del first, second\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_graph)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
