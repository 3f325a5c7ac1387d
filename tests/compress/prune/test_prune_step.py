from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer

from pocketformer.compress.context import Progress, StepContext
from pocketformer.compress.data import Dataset
from pocketformer.compress.models import load_classifier, structure_of
from pocketformer.compress.prune.config import PruneConfig, VocabularyConfig
from pocketformer.compress.prune.step import prune, prune_vocabulary_step


@pytest.fixture
def context(tiny_texts: list[str], tiny_labels: list[int], tmp_path: Path) -> StepContext:
    texts, labels = tuple(tiny_texts), tuple(tiny_labels)
    splits: Any = SimpleNamespace(
        train=Dataset(texts=texts[:50], labels=labels[:50]),
        validation=Dataset(texts=texts[50:], labels=labels[50:]),
        unlabeled=(),
    )
    return StepContext(
        splits=cast(Any, splits), output=tmp_path / "out", work=tmp_path / "work", max_length=32
    )


def test_layers_heads_and_neurons_go_in_one_step(tiny_model_dir: Path, context: StepContext) -> None:
    seen: list[Progress] = []
    noisy = StepContext(
        splits=context.splits, output=context.output, work=context.work, on_progress=seen.append
    )
    result = prune(tiny_model_dir, PruneConfig(layers=2, heads=0.5, ffn=16, batch_size=16), noisy)
    structure = structure_of(load_classifier(result.output))
    assert [(layer.heads, layer.ffn) for layer in structure.layers] == [(2, 16), (2, 16)]
    assert result.metrics["examples"] == 50
    assert result.metrics["parameters_after"] < result.metrics["parameters_before"]
    assert seen[-1].step == seen[-1].total == 50
    assert "0, 2 of 3" in result.notes[0]


def test_the_same_settings_give_the_same_weights(
    tiny_model_dir: Path, context: StepContext, tmp_path: Path
) -> None:
    config = PruneConfig(heads=1, ffn=8, samples=20, seed=3)
    first = load_classifier(prune(tiny_model_dir, config, context).output).state_dict()
    other = StepContext(splits=context.splits, output=tmp_path / "again", work=context.work)
    second = load_classifier(prune(tiny_model_dir, config, other).output).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_labels_the_step_works(tiny_model_dir: Path, context: StepContext) -> None:
    train: Any = Dataset(texts=context.splits.train.texts, labels=None)
    splits: Any = SimpleNamespace(train=train, validation=train)
    silent = StepContext(splits=splits, output=context.output, work=context.work)
    result = prune(tiny_model_dir, PruneConfig(heads=1, ffn=8), silent)
    assert structure_of(load_classifier(result.output)).layers[0].heads == 1


def test_keeping_everything_changes_nothing(tiny_model_dir: Path, context: StepContext) -> None:
    result = prune(tiny_model_dir, PruneConfig(), context)
    assert structure_of(load_classifier(result.output)) == structure_of(load_classifier(tiny_model_dir))


@pytest.mark.parametrize("replacement", ["split", "nearest"])
def test_the_vocabulary_step_writes_a_whole_directory(
    tiny_model_dir: Path, context: StepContext, replacement: Any
) -> None:
    pruned = prune_vocabulary_step(
        tiny_model_dir, VocabularyConfig(size=0.2, replacement=replacement), context
    )
    model = load_classifier(pruned.output)
    before = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json"))
    after = Tokenizer.from_file(str(pruned.output / "tokenizer.json"))
    for text in (*context.splits.train.texts, *context.splits.validation.texts):
        encoded = after.encode(text)
        assert encoded.tokens == before.encode(text).tokens
        assert max(encoded.ids) < model.config.vocab_size


def test_a_word_table_of_lower_rank_keeps_what_the_texts_look_up(
    tiny_model_dir: Path, context: StepContext
) -> None:
    result = prune(tiny_model_dir, PruneConfig(embedding_rank=0.5), context)
    before, after = (load_classifier(place) for place in (tiny_model_dir, result.output))
    tables = [model.get_input_embeddings().weight.detach().double() for model in (before, after)]
    rank = tables[0].shape[1] // 2
    assert int(torch.linalg.matrix_rank(tables[1], rtol=1e-5)) == rank == result.metrics["embedding_rank"]
    assert 0 < result.metrics["embedding_variance_kept"] < 1
    assert structure_of(after) == structure_of(before)
    # Rows that the texts use come back better than the others.
    tokenizer = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json"))
    used = torch.zeros(len(tables[0]), dtype=torch.bool)
    for encoding in tokenizer.encode_batch(list(context.splits.train.texts)):
        used[encoding.ids] = True
    assert not used.all()
    lost = ((tables[0] - tables[1]) ** 2).sum(dim=1) / (tables[0] ** 2).sum(dim=1).clamp_min(1e-12)
    assert lost[used].mean() < lost[~used].mean()
