"""Batches keep every row exactly once; augmentation keeps its promises."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.compress.augmentation import AugmentationConfig, augment, nearest_tokens
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


def test_sampler_draws_from_both_pools_and_changes_with_the_epoch() -> None:
    sampler = bucket_sampler([5] * 300, 10, 0, range(100), range(100, 300), 0.7)
    first, second = list(sampler), list(sampler)
    assert len(first) == len(second) == len(sampler) == 100
    assert len(set(first)) == 100
    assert sum(i < 100 for i in first) == 30
    assert first != second


def test_sampler_takes_what_altered_rows_there_are() -> None:
    assert sorted(bucket_sampler([5] * 10, 4, 0, range(10))) == list(range(10))
    few = list(bucket_sampler([5] * 11, 4, 0, range(10), range(10, 11), 0.5))
    assert len(few) == len(set(few)) == 10
    assert 10 in few


@given(
    st.lists(st.lists(st.integers(10, 99), min_size=1, max_size=12), min_size=1, max_size=8),
    st.integers(0, 1000),
)
def test_augmented_rows_keep_frame_and_length(bodies: list[list[int]], seed: int) -> None:
    rows = [[1, *body, 2] for body in bodies]
    copies = augment(rows, frozenset({0, 1, 2}), 10, AugmentationConfig(copies=2), seed)
    fewer = augment(rows, frozenset({0, 1, 2}), 10, AugmentationConfig(copies=2, most=len(rows) + 1), seed)
    assert len(fewer) == len(rows) + 1
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


def test_nearest_tokens_agree_with_brute_force() -> None:
    table = torch.randn(700, 8, generator=torch.Generator().manual_seed(3))
    special = frozenset({0, 5})

    found = nearest_tokens(table, range(700), 4, special)

    assert set(found) == set(range(700)) - special
    unit = (table / table.norm(dim=-1, keepdim=True)).double()
    for token in (1, 513, 699):
        by_cosine = sorted(
            (other for other in range(700) if other != token and other not in special),
            key=lambda other: -float(unit[token] @ unit[other]),
        )
        assert found[token] == by_cosine[:4]


def test_a_vocabulary_without_others_has_no_nearest_tokens() -> None:
    assert nearest_tokens(torch.eye(3), [0, 1, 2], 4, frozenset({0, 1})) == {}


def test_swapped_tokens_come_from_their_nearest() -> None:
    rows = [[0, *([7] * 50), 1]]
    config = AugmentationConfig(copies=4, drop=0.0, splice=0.0, swap=0.5)

    copies = augment(rows, frozenset({0, 1}), 60, config, 0, {7: [8, 9]})

    tokens = [token for copy in copies for token in copy[1:-1]]
    assert {copy[0] for copy in copies} == {0}
    assert {copy[-1] for copy in copies} == {1}
    assert set(tokens) == {7, 8, 9}
    assert 0.3 < sum(token != 7 for token in tokens) / len(tokens) < 0.7
