from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketformer.compress.prune.saliency_core import (
    LayerScores,
    choose_global,
    choose_uniform,
    fisher_diagonal,
    head_mask_gradients,
    keep_best,
    removal_cost,
)


def test_diagonal_and_cost_equal_the_written_out_fisher_matrix() -> None:
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(9, 5)).astype(np.float32)
    fisher = np.zeros((5, 5))
    for row in gradients.astype(np.float64):
        fisher += np.outer(row, row) / len(gradients)
    np.testing.assert_allclose(fisher_diagonal(gradients), np.diag(fisher), rtol=1e-6)
    for removed in itertools.product([False, True], repeat=5):
        change = np.array(removed, dtype=np.float64)  # 1 - m
        expected = 0.5 * change @ fisher @ change
        assert removal_cost(gradients, np.array(removed)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_no_examples_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        fisher_diagonal(np.zeros((0, 4)))


def test_head_gradients_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    activation, gradient = rng.normal(size=(2, 3, 4, 6))
    expected = np.zeros((3, 2))
    for example in range(3):
        for token in range(4):
            for column in range(6):
                expected[example, column // 3] += (
                    activation[example, token, column] * gradient[example, token, column]
                )
    np.testing.assert_allclose(head_mask_gradients(activation, gradient, 2), expected)


def test_equal_scores_keep_the_first() -> None:
    assert keep_best(np.array([1.0, 3.0, 1.0, 3.0]), 3) == (0, 1, 3)


def _layers(rng: np.random.Generator, count: int) -> list[LayerScores]:
    return [
        LayerScores(heads=rng.random(4), neurons=rng.random(32), head_cost=40, neuron_cost=5)
        for _ in range(count)
    ]


def test_uniform_takes_the_best_of_each_layer() -> None:
    layers = _layers(np.random.default_rng(2), 2)
    choices = choose_uniform(layers, [1, 3], [8, 16])
    assert choices[0].heads == (int(layers[0].heads.argmax()),)
    assert len(choices[1].heads) == 3
    assert min(layers[1].neurons[list(choices[1].neurons)]) >= np.sort(layers[1].neurons)[-16]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0, 1), st.sampled_from([4, 8, 16]))
def test_global_keeps_minimums_multiples_and_budget(
    seed: int, count: int, share: float, multiple: int
) -> None:
    layers = _layers(np.random.default_rng(seed), count)
    least = count * (40 + 5 * multiple)
    budget = int(least + share * (count * (160 + 160) - least))
    choices = choose_global(layers, budget, width_multiple=multiple)
    assert all(
        len(c.heads) >= 1 and len(c.neurons) >= multiple and len(c.neurons) % multiple == 0 for c in choices
    )
    spent = sum(40 * len(c.heads) + 5 * len(c.neurons) for c in choices)
    assert spent <= budget
    # Whatever is left could not have paid for one more unit of the cheaper kind that is still to be had.
    neurons_left = any(len(c.neurons) < 32 for c in choices)
    if neurons_left:
        assert budget - spent < 5 * multiple


def test_global_gives_a_salient_layer_more() -> None:
    rng = np.random.default_rng(3)
    weak, strong = _layers(rng, 2)
    strong = LayerScores(heads=strong.heads + 10, neurons=strong.neurons + 10, head_cost=40, neuron_cost=5)
    choices = choose_global([weak, strong], 320, width_multiple=8)
    assert len(choices[1].heads) > len(choices[0].heads)
    assert len(choices[1].neurons) > len(choices[0].neurons)


def test_global_keeps_the_minimum_even_without_budget() -> None:
    choices = choose_global(_layers(np.random.default_rng(4), 2), 0, width_multiple=8)
    assert [(len(c.heads), len(c.neurons)) for c in choices] == [(1, 8), (1, 8)]
