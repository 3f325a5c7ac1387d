from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketformer.runtime.errors import InputError, PocketformerError, VerificationError
from pocketformer.runtime.manifest import MANIFEST_FILE, SessionSettings, file_entry
from pocketformer.runtime.model import Model, load
from pocketformer.runtime.results import Prediction

TINY_LABELS = ("animal", "place", "person")


def edit_manifest(bundle: Path, **changes: object) -> None:
    path = bundle / MANIFEST_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    document.update(changes)
    path.write_text(json.dumps(document), encoding="utf-8")


def replace_file(bundle: Path, name: str, content: bytes) -> None:
    """Replace a file and state its new hash, as somebody who wrote the bundle wrongly would."""
    (bundle / name).write_bytes(content)
    document = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    entry = file_entry(bundle / name)
    edit_manifest(bundle, files={**document["files"], name: {"sha256": entry.sha256, "bytes": entry.bytes}})


def test_logits_are_those_of_the_torch_model(
    tiny_runtime: Model, tiny_texts: list[str], tiny_reference: np.ndarray
) -> None:
    logits = tiny_runtime.logits(tiny_texts)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, tiny_reference, atol=1e-5)


def test_predictions_are_softmax_over_the_manifests_labels(
    tiny_runtime: Model, tiny_texts: list[str], tiny_reference: np.ndarray
) -> None:
    exponentials = np.exp(tiny_reference - tiny_reference.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    predictions = tiny_runtime.predict(tiny_texts)
    assert [item.text for item in predictions] == tiny_texts
    assert [item.label for item in predictions] == [
        TINY_LABELS[best] for best in tiny_reference.argmax(axis=1)
    ]
    np.testing.assert_allclose([item.score for item in predictions], probabilities.max(axis=1), atol=1e-5)
    assert tiny_runtime.labels == TINY_LABELS


@pytest.mark.parametrize("batch_size", [1, 2, 7, 32, 1000])
def test_batches_keep_the_order(tiny_runtime: Model, tiny_texts: list[str], batch_size: int) -> None:
    whole = tiny_runtime.logits(tiny_texts, batch_size=1000)
    np.testing.assert_allclose(tiny_runtime.logits(tiny_texts, batch_size=batch_size), whole, atol=1e-5)


def test_windows_keep_the_order(
    tiny_runtime: Model, tiny_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_runtime.logits(tiny_texts, batch_size=4)
    monkeypatch.setattr("pocketformer.runtime.model._BATCHES_A_WINDOW", 3)
    np.testing.assert_allclose(tiny_runtime.logits(tiny_texts, batch_size=4), whole, atol=1e-5)
    wrong = [*tiny_texts[:30], None]
    with pytest.raises(InputError, match="item 30 is NoneType"):
        tiny_runtime.logits(wrong, batch_size=4)  # type: ignore[arg-type]


def test_one_and_many_agree(tiny_runtime: Model, tiny_texts: list[str]) -> None:
    for text in [*tiny_texts[:5], "", "cat \ud800", "cat " * 100]:
        one = tiny_runtime.predict_one(text)
        assert isinstance(one, Prediction)
        assert tiny_runtime.predict([text]) == [one]
        assert 0.0 < one.score <= 1.0


def test_no_texts_no_answers(tiny_runtime: Model) -> None:
    assert tiny_runtime.predict([]) == []
    assert tiny_runtime.logits([]).shape == (0, 3)


def test_wrong_arguments(tiny_runtime: Model) -> None:
    for texts in ("cat", ""):
        with pytest.raises(InputError, match="a list of texts"):
            tiny_runtime.predict(texts)
        with pytest.raises(InputError, match="a list of texts"):
            tiny_runtime.logits(texts)
    with pytest.raises(InputError, match="batch_size is 0"):
        tiny_runtime.predict(["cat", "dog"], batch_size=0)
    with pytest.raises(InputError, match="item 0 is int"):
        tiny_runtime.predict([3])  # type: ignore[list-item]


def test_predict_takes_any_sequence(tiny_runtime: Model, tiny_texts: list[str]) -> None:
    expected = tiny_runtime.predict(tiny_texts[:3])
    assert tiny_runtime.predict(tuple(tiny_texts[:3])) == expected
    assert tiny_runtime.predict(np.array(tiny_texts[:3], dtype=object)) == expected


def test_score_of_extreme_logits_neither_overflows_nor_vanishes(tiny_runtime: Model) -> None:
    assert tiny_runtime._answer("x", [1e4, -1e4, 0.0]) == Prediction("x", "animal", 1.0)
    assert tiny_runtime._answer("x", [2.0, 2.0, 2.0]).score == pytest.approx(1 / 3)


def test_several_threads_share_a_model(tiny_runtime: Model, tiny_texts: list[str]) -> None:
    expected = {text: tiny_runtime.predict_one(text) for text in tiny_texts}
    wrong: list[object] = []

    def work(start: int) -> None:
        try:
            for index in range(60):
                text = tiny_texts[(start * 13 + index) % len(tiny_texts)]
                if tiny_runtime.predict_one(text) != expected[text]:
                    wrong.append(text)
            for item in tiny_runtime.predict(tiny_texts, batch_size=8):
                if item.label != expected[item.text].label:
                    wrong.append(item)
        except PocketformerError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_encode_is_what_the_graph_takes(tiny_runtime: Model) -> None:
    feeds = tiny_runtime.encode(["cat dog", "bird"])
    assert set(feeds) == set(tiny_runtime.engine.input_names)
    assert tiny_runtime.engine.run(feeds).shape == (2, 3)


def test_session_can_be_replaced(tiny_bundle: Path) -> None:
    assert load(tiny_bundle).engine.settings == SessionSettings(intra_op_threads=1, spinning=False)
    other = SessionSettings(intra_op_threads=2, graph_optimization="basic")
    assert load(tiny_bundle, session=other).engine.settings == other


def test_public_load(tiny_bundle: Path) -> None:
    import pocketformer

    assert pocketformer.load(str(tiny_bundle)).predict_one("cat").label in TINY_LABELS


def test_graph_without_token_types(
    bundle: Path, tiny_export: Callable[..., Path], tiny_runtime: Model
) -> None:
    inputs = ("input_ids", "attention_mask")
    tiny_export(bundle / "model.onnx", inputs)
    replace_file(bundle, "model.onnx", (bundle / "model.onnx").read_bytes())
    with pytest.raises(VerificationError, match="has the inputs attention_mask, input_ids"):
        load(bundle)
    edit_manifest(
        bundle, inputs=[{"name": n, "dtype": "int64", "axes": ["batch", "sequence"]} for n in inputs]
    )
    model = load(bundle)
    assert model.engine.input_names == inputs
    assert model.predict_one("cat dog").score == pytest.approx(
        tiny_runtime.predict_one("cat dog").score, abs=1e-5
    )


class TestDamage:
    def test_no_bundle(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no bundle at") as caught:
            load(tmp_path / "absent")
        assert caught.value.exit_code == 2
        with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
            load(tmp_path)
        with pytest.raises(InputError):
            load("nul\0byte")

    def test_a_file_in_place_of_a_bundle(self, tiny_bundle: Path) -> None:
        with pytest.raises(InputError, match="no bundle at"):
            load(tiny_bundle / "model.onnx")

    @pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "golden.jsonl"])
    def test_missing_and_truncated_files(self, bundle: Path, name: str) -> None:
        content = (bundle / name).read_bytes()
        (bundle / name).write_bytes(content[:-1])
        with pytest.raises(VerificationError, match="bytes, its manifest says"):
            load(bundle)
        (bundle / name).unlink()
        with pytest.raises(VerificationError, match="is missing from the bundle"):
            load(bundle)

    def test_graph_that_is_none(self, bundle: Path) -> None:
        replace_file(bundle, "model.onnx", b"not a graph")
        with pytest.raises(VerificationError, match=r"cannot load .*model\.onnx") as caught:
            load(bundle)
        assert caught.value.exit_code == 5

    def test_another_number_of_labels(self, bundle: Path) -> None:
        edit_manifest(bundle, postprocessing={"kind": "softmax_labels", "labels": ["a", "b"]})
        with pytest.raises(VerificationError, match="2 labels"):
            load(bundle)

    def test_manifest_that_is_not_utf8(self, bundle: Path) -> None:
        (bundle / MANIFEST_FILE).write_bytes(b'{"name": "\xff"}')
        with pytest.raises(VerificationError, match="not UTF-8 at byte 10"):
            load(bundle)
