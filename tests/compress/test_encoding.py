"""Batches keep every row exactly once; augmentation keeps its promises."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.compress.augmentation import AugmentationConfig, augment
from pocketformer.compress.encoding import TextEncoding, bucketed_batches, pad_batch, predict_logits
from pocketformer.compress.training import bucket_sampler, default_learning_rate


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(1, 16), st.booleans())
def test_batches_hold_every_row_once(lengths: list[int], batch_size: int, shuffled: bool) -> None:
    batches = bucketed_batches(lengths, batch_size, random.Random(0) if shuffled else None)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)


def test_batches_are_of_similar_length() -> None:
    rng = random.Random(1)
    lengths = [rng.randint(4, 60) for _ in range(640)]
    padded = sum(len(b) * max(lengths[i] for i in b) for b in bucketed_batches(lengths, 32, random.Random(0)))
    assert padded < 1.15 * sum(lengths)


def test_sampler_draws_from_every_pool_and_changes_with_the_epoch() -> None:
    sampler = bucket_sampler([5] * 300, 10, seed=0, pools=[range(100), range(100, 300)])
    first, second = list(sampler), list(sampler)
    assert len(first) == len(second) == len(sampler) == 100
    assert len(set(first)) == 100
    assert sum(i < 100 for i in first) == 50
    assert first != second


@given(
    st.lists(st.lists(st.integers(10, 99), min_size=1, max_size=12), min_size=1, max_size=8),
    st.integers(0, 1000),
)
def test_augmented_rows_keep_frame_and_length(bodies: list[list[int]], seed: int) -> None:
    rows = [[1, *body, 2] for body in bodies]
    copies = augment(rows, frozenset({0, 1, 2}), 10, AugmentationConfig(copies=2), seed)
    assert len(copies) == 2 * len(rows)
    known = {token for body in bodies for token in body}
    for copy in copies:
        assert copy[0] == 1
        assert copy[-1] == 2
        assert 3 <= len(copy) <= max(10, max(map(len, rows)))
        assert set(copy[1:-1]) <= known


def test_learning_rate_falls_with_width() -> None:
    assert default_learning_rate(384) == 2e-4
    assert default_learning_rate(768) == 5e-5
    assert default_learning_rate(32) == 2e-4


def test_padding_does_not_change_logits(tiny_model_dir: Path, tiny_texts: list[str]) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_dir).eval()
    encoding = TextEncoding(tiny_model_dir, 64)
    rows = encoding.encode(tiny_texts[:9])
    together = predict_logits(model, rows, encoding.pad_id, batch_size=4)
    alone = np.concatenate([predict_logits(model, [row], encoding.pad_id) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_truncation_rate_counts_what_is_cut(tiny_model_dir: Path) -> None:
    encoding = TextEncoding(tiny_model_dir, 5)
    assert encoding.truncation_rate(["the cat", "the cat is in the old city"]) == 0.5
    assert len(encoding.encode(["the cat is in the old city"])[0]) == 5
    assert pad_batch([[1, 2], [3]], 0)["attention_mask"].tolist() == [[1, 1], [1, 0]]
