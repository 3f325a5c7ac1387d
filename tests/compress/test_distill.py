"""A student learns what the teacher says; the teacher is asked once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.compress.augmentation import AugmentationConfig
from pocketformer.compress.context import StepContext
from pocketformer.compress.data import DataAudit, Dataset, Splits
from pocketformer.compress.distill import DistillConfig, _Matcher, distill
from pocketformer.compress.encoding import TextEncoding, predict_logits
from pocketformer.compress.models import load_classifier
from pocketformer.compress.prune.config import VocabularyConfig
from pocketformer.compress.prune.step import prune_vocabulary_step
from pocketformer.compress.teacher_cache import teacher_cache
from pocketformer.compress.training import TrainingConfig, _Validation
from pocketformer.runtime.errors import ModelError, RecipeError


@pytest.fixture
def context(
    tmp_path: Path, tiny_model_dir: Path, tiny_texts: list[str], tiny_labels: list[int]
) -> StepContext:
    train = Dataset(texts=tuple(tiny_texts[:48]), labels=tuple(tiny_labels[:48]))
    validation = Dataset(texts=tuple(tiny_texts[48:]), labels=tuple(tiny_labels[48:]))
    splits = Splits(
        train=train,
        validation=validation,
        label_names=("animal", "place", "person"),
        audit=DataAudit(rows_read=60),
    )
    return StepContext(
        splits=splits,
        output=tmp_path / "model",
        work=tmp_path / "work",
        teacher=tiny_model_dir,
        max_length=16,
    )


def _distance(first: Path, second: Path, texts: list[str]) -> float:
    encoding = TextEncoding(first, 16)
    rows = encoding.encode(texts)
    logits = [predict_logits(load_classifier(path), rows, encoding.pad_id) for path in (first, second)]
    return float(np.abs(logits[0] - logits[1]).mean())


@pytest.mark.parametrize("match", ["hidden_states", "relations", "none"])
def test_a_student_comes_closer_to_its_teacher(
    context: StepContext, tiny_model_dir: Path, tiny_texts: list[str], match: str, tmp_path: Path
) -> None:
    def student(epochs: float, name: str) -> Path:
        training = TrainingConfig(epochs=epochs, learning_rate=2e-3, batch_size=8, keep="last")
        config = DistillConfig(
            layers=2,
            match=match,  # type: ignore[arg-type]
            temperature=1.0,
            augmentation=AugmentationConfig(copies=1),
            training=training,
        )
        moved = StepContext(**{**vars(context), "output": tmp_path / name, "work": tmp_path / f"{name}-work"})
        return distill(tiny_model_dir, config, moved).output

    before = _distance(tiny_model_dir, student(0.01, "before"), tiny_texts)
    after = _distance(tiny_model_dir, student(4, "after"), tiny_texts)
    assert after < 0.8 * before


def test_of_the_last_layer_only_what_the_head_reads_is_imitated(tiny_model_dir: Path) -> None:
    import torch

    model = load_classifier(tiny_model_dir).eval()
    matcher = _Matcher(DistillConfig(), model, model)
    inputs = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        logits, vectors = matcher.teacher_view(model, inputs)
        assert vectors is not None

        def loss_when_moved(layer: int, position: int) -> float:
            moved = vectors.clone()
            moved[layer, 0, position] += 1
            batch = {**inputs, "teacher_logits": logits, "teacher_vectors": moved}
            return float(matcher.loss(model, batch))

        assert loss_when_moved(-1, 0) > 0.1
        assert loss_when_moved(-1, 2) == pytest.approx(0, abs=1e-6)
        assert loss_when_moved(0, 2) > 0.1


def test_a_student_with_fewer_embedding_rows_learns_the_same(
    context: StepContext, tiny_model_dir: Path, tiny_texts: list[str], tmp_path: Path
) -> None:
    def step(name: str) -> StepContext:
        return replace(context, output=tmp_path / name, work=tmp_path / f"{name}-work")

    def logits(model: Path) -> np.ndarray[Any, Any]:
        encoding = TextEncoding(model, 16)
        return predict_logits(load_classifier(model), encoding.encode(tiny_texts), encoding.pad_id)

    config = DistillConfig(
        layers=2,
        augmentation=AugmentationConfig(copies=0),
        training=TrainingConfig(epochs=1, learning_rate=2e-3, batch_size=8),
    )
    fewer = prune_vocabulary_step(
        tiny_model_dir, VocabularyConfig(size=1, replacement="nearest"), step("fewer")
    ).output
    whole = distill(tiny_model_dir, config, step("whole")).output
    pruned = distill(fewer, config, step("pruned")).output
    rows = [load_classifier(model).get_input_embeddings().weight.shape[0] for model in (whole, pruned)]
    assert rows[1] < rows[0]
    np.testing.assert_allclose(logits(pruned), logits(whole), atol=1e-5)

    split = prune_vocabulary_step(tiny_model_dir, VocabularyConfig(size=1), step("split")).output
    with pytest.raises(ModelError, match="lacks"):
        distill(split, config, step("impossible"))


@pytest.mark.parametrize("keep", ["best", "last", "average"])
def test_the_epoch_that_is_kept(
    keep: str, context: StepContext, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.9, 0.4, 0.5])
    weights: list[np.ndarray[Any, Any]] = []

    def score_once(_: object, model: Any) -> float:
        weights.append(model.classifier.weight.detach().numpy().copy())
        return next(scores)

    monkeypatch.setattr(_Validation, "score", score_once)
    training = TrainingConfig(epochs=3, learning_rate=2e-3, batch_size=8, keep=keep)  # type: ignore[arg-type]

    result = distill(tiny_model_dir, DistillConfig(layers=2, training=training), context)

    epoch = {"best": 2, "last": 3, "average": 4}[keep]
    assert result.metrics["kept_epoch"] == min(epoch, 3)
    assert result.metrics["validation_accuracy"] == {"best": 0.9, "last": 0.4, "average": 0.5}[keep]
    if keep == "average":  # what was scored at the end is a mean that lies off the last weights
        assert not np.array_equal(weights[3], weights[2])
    kept = load_classifier(result.output).classifier.weight.detach().numpy()
    np.testing.assert_array_equal(kept, weights[epoch - 1])


def test_without_a_teacher_there_is_nothing_to_learn_from(context: StepContext, tiny_model_dir: Path) -> None:
    orphan = StepContext(**{**vars(context), "teacher": None})
    with pytest.raises(RecipeError, match="needs a teacher"):
        distill(tiny_model_dir, DistillConfig(), orphan)


def test_relation_heads_must_fit(context: StepContext, tiny_model_dir: Path) -> None:
    with pytest.raises(RecipeError, match="does not divide"):
        distill(tiny_model_dir, DistillConfig(match="relations", relation_heads=5), context)


def test_the_teacher_is_asked_once_for_each_question(tmp_path: Path, tiny_model_dir: Path) -> None:
    import torch

    rows = [[2, 8, 9, 3], [2, 10, 3], [2, 11, 12, 13, 3]]
    asked: list[int] = []

    def view(model: object, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(len(batch["input_ids"]))
        out = model(**batch, output_hidden_states=True)  # type: ignore[operator]
        return out.logits, torch.stack([out.hidden_states[1], out.hidden_states[3]])

    def ask(key: str) -> object:
        return teacher_cache(
            lambda: load_classifier(tiny_model_dir), rows, pad_id=0, vectors=view, folder=tmp_path, key=key
        )

    first, again = ask("a"), ask("a")
    assert sum(asked) == len(rows)
    np.testing.assert_array_equal(first.batch([1, 2], 5), again.batch([1, 2], 5))  # type: ignore[attr-defined]
    ask("b")
    assert sum(asked) == 2 * len(rows)
    model = load_classifier(tiny_model_dir)
    with torch.inference_mode():
        hidden = model(input_ids=torch.tensor([rows[2]]), output_hidden_states=True).hidden_states
    kept = first.batch([2], 6)  # type: ignore[attr-defined]
    np.testing.assert_allclose(kept[1, 0, :5], hidden[3][0], atol=2e-3)
    assert not kept[:, 0, 5:].any()


def test_students_of_any_depth_ask_the_teacher_once(
    context: StepContext, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that what is read back for fewer layers is what would have been kept for them alone."""
    brief = {"augmentation": AugmentationConfig(copies=1), "training": TrainingConfig(epochs=1, batch_size=8)}
    cache = tmp_path / "cache"

    def student(layers: int, folder: Path) -> bytes:
        step = replace(
            context, output=tmp_path / f"{layers}-{folder.name}", work=tmp_path / "w", cache=folder
        )
        distill(tiny_model_dir, DistillConfig(layers=layers, **brief), step)  # type: ignore[arg-type]
        return (step.output / "model.safetensors").read_bytes()

    together = [student(layers, cache) for layers in (3, 2)]
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("pocketformer.compress.distill._KEPT_BYTES", 0)
    assert [student(layers, tmp_path / f"alone-{layers}") for layers in (3, 2)] == together
    assert all((tmp_path / f"alone-{layers}").is_dir() for layers in (3, 2))


def test_texts_without_labels_are_learned_too(context: StepContext, tiny_model_dir: Path) -> None:
    training = TrainingConfig(epochs=1, batch_size=1)
    config = DistillConfig(layers=2, augmentation=AugmentationConfig(copies=0), training=training)
    steps = distill(tiny_model_dir, config, context).metrics["steps"]
    splits = replace(context.splits, unlabeled=("a cat and a dog", "what is the capital ?"))
    more = replace(context, splits=splits, output=context.output.with_name("more"))
    assert distill(tiny_model_dir, config, more).metrics["steps"] == steps + 2
