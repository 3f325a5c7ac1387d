"""OBS against brute force: every removal compared with a least-squares fit from scratch."""

from __future__ import annotations

import numpy as np
import pytest

from pocketformer.compress.prune.obs_core import (
    columns_of,
    compensated,
    damped,
    least_squares,
    removal_path,
)


def _problem(outputs: int, inputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(400, inputs)) @ rng.normal(size=(inputs, inputs)) + rng.normal(size=inputs)
    return rng.normal(size=(outputs, inputs)), rng.normal(size=outputs), tokens


def _fit(weight: np.ndarray, tokens: np.ndarray, kept: list[int]) -> tuple[float, np.ndarray, np.ndarray]:
    """Error, weights and intercept of ordinary least squares with an intercept, by numpy's own solver."""
    target = tokens @ weight.T
    table = np.column_stack([tokens[:, kept], np.ones(len(tokens))])
    solution, *_ = np.linalg.lstsq(table, target, rcond=None)
    error = float(np.square(target - table @ solution).sum(axis=1).mean())
    return error, solution[:-1].T, solution[-1]


@pytest.mark.parametrize(("inputs", "size"), [(7, 1), (40, 1), (8, 2), (12, 3)])
def test_every_error_is_that_of_a_fit_from_scratch(inputs: int, size: int) -> None:
    weight, _, tokens = _problem(5, inputs)
    path = removal_path(weight, np.cov(tokens.T, bias=True), size)
    assert sorted(path.order) == list(range(inputs // size))
    for count in range(inputs // size + 1):
        kept = columns_of(path.kept(count), size).tolist()
        assert path.error(count) == pytest.approx(_fit(weight, tokens, kept)[0], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("size", [1, 2])
def test_each_removal_is_the_best_single_one(size: int) -> None:
    weight, _, tokens = _problem(4, 8, seed=3)
    path = removal_path(weight, np.cov(tokens.T, bias=True), size)
    left = list(range(8 // size))
    for gone in path.order[:-1]:
        errors = {
            name: _fit(weight, tokens, columns_of(tuple(n for n in left if n != name), size).tolist())[0]
            for name in left
        }
        assert gone == min(errors, key=errors.__getitem__)
        left.remove(gone)


def test_compensated_weights_and_bias_are_the_fit() -> None:
    weight, bias, tokens = _problem(5, 9)
    kept = np.asarray([0, 2, 3, 7])
    new = compensated(weight, np.cov(tokens.T, bias=True), kept)
    _, expected, intercept = _fit(weight, tokens, kept.tolist())
    np.testing.assert_allclose(new, expected, atol=1e-8)
    mean = tokens.mean(axis=0)
    np.testing.assert_allclose(bias + weight @ mean - new @ mean[kept], bias + intercept, atol=1e-8)


def test_of_two_equal_inputs_one_goes_for_nothing_and_the_other_takes_over() -> None:
    weight, _, tokens = _problem(4, 6)
    tokens[:, 5] = tokens[:, 2]
    covariance = damped(np.cov(tokens.T, bias=True), 1e-9)
    path = removal_path(weight, covariance)
    assert path.order[0] in (2, 5)
    assert path.errors[1] < 1e-6 * path.errors[-1]
    assert not {2, 5} <= set(path.order[:2])
    kept = np.asarray(path.kept(5))
    stays = int(np.flatnonzero(np.isin(kept, (2, 5)))[0])
    np.testing.assert_allclose(
        compensated(weight, covariance, kept)[:, stays], weight[:, 2] + weight[:, 5], atol=1e-4
    )


def test_a_metric_of_the_outputs_changes_what_goes_first() -> None:
    covariance = np.eye(2)
    weight = np.asarray([[1.0, 0.0], [0.0, 2.0]])
    assert removal_path(weight, covariance).order == (0, 1)
    assert removal_path(np.diag([3.0, 1.0]) @ weight, covariance).order == (1, 0)


def test_the_damped_fit_equals_the_weights_of_damped_elimination() -> None:
    weight, _, tokens = _problem(5, 9)
    covariance = np.cov(tokens.T, bias=True)
    kept = np.asarray([1, 4, 5, 8])
    ridge = 0.3
    fitted = least_squares(
        weight @ covariance[:, kept], covariance[np.ix_(kept, kept)], weight[:, kept], ridge
    )
    np.testing.assert_allclose(fitted, compensated(weight, covariance + ridge * np.eye(9), kept), atol=1e-10)


def test_a_strong_ridge_keeps_the_prior() -> None:
    _, _, tokens = _problem(5, 9)
    prior = np.full((5, 3), 0.5)
    fitted = least_squares(np.zeros((5, 3)), np.cov(tokens[:, :3].T, bias=True), prior, 1e9)
    np.testing.assert_allclose(fitted, prior, atol=1e-5)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="structures of 2"):
        removal_path(np.ones((2, 3)), np.eye(3), 2)
