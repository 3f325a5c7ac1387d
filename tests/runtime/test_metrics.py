from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.runtime import metrics
from pocketformer.runtime.errors import InputError

PAIRS = st.integers(2, 5).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=40),
    )
)


@given(case=PAIRS)
@settings(max_examples=100)
def test_equal_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    classes, pairs = case
    labels, predictions = (list(column) for column in zip(*pairs, strict=True))
    expected = {
        "accuracy": accuracy_score(labels, predictions),
        "f1_macro": f1_score(labels, predictions, average="macro", zero_division=0.0),
        "matthews": matthews_corrcoef(labels, predictions) if len({*labels, *predictions}) > 1 else 0.0,
    }
    if classes == 2:
        expected["f1"] = f1_score(labels, predictions, zero_division=0.0)
    for name, value in expected.items():
        assert metrics.score(name, labels, predictions, classes) == pytest.approx(value, abs=1e-12)


def test_by_hand() -> None:
    labels, predictions = [1, 1, 1, 0, 0], [1, 1, 0, 1, 0]
    assert metrics.accuracy(labels, predictions) == 0.6
    assert metrics.f1(labels, predictions) == pytest.approx(2 / 3)
    assert metrics.f1_macro(labels, predictions) == pytest.approx((2 / 3 + 1 / 2) / 2)
    # true positives 2, true negatives 1, false positives 1, false negatives 1
    assert metrics.matthews(labels, predictions) == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))
    assert metrics.flips([0, 1, 2, 2], [0, 2, 2, 1]) == 2
    assert metrics.agreement([0, 1, 2, 2], [0, 2, 2, 1]) == 0.5


def test_per_class() -> None:
    rows = metrics.per_class([0, 0, 1, 1], [0, 1, 1, 1], ["a", "b", "never"])
    assert rows[0] == {
        "label": "a",
        "support": 2,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert rows[1]["precision"] == pytest.approx(2 / 3)
    assert rows[2] == {"label": "never", "support": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_errors() -> None:
    with pytest.raises(InputError, match="no metric 'acuracy'") as caught:
        metrics.metric_by_name("acuracy")
    assert "Did you mean 'accuracy'" in (caught.value.hint or "")
    with pytest.raises(InputError, match="no metric 'zzz'"):
        metrics.check_metric("zzz", 2)
    with pytest.raises(InputError, match="f1 is for 2 classes"):
        metrics.score("f1", [0, 1, 2], [0, 1, 2], 3)
    assert metrics.check_metric("f1", 0).name == "f1"  # how many is not known yet
    with pytest.raises(InputError, match="cannot compare 2 labels, 1 predictions"):
        metrics.score("accuracy", [0, 1], [0], 2)
    with pytest.raises(InputError, match="cannot compare 0 labels"):
        metrics.score("accuracy", [], [], 2)
    with pytest.raises(InputError, match="predictions holds class 5"):
        metrics.score("accuracy", [0, 1], [0, 5], 2)
    with pytest.raises(InputError, match="labels holds class -1"):
        metrics.score("accuracy", [-1, 1], [0, 1], 2)
    with pytest.raises(InputError, match="labels must be a list of class indices"):
        metrics.score("accuracy", np.array([0.5, 1.0]), [0, 1], 2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="samples is 0"):
        metrics.bootstrap_interval("accuracy", [0], [0], 2, samples=0)


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    for successes, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
    ):
        assert metrics.wilson_interval(successes, n) == (
            pytest.approx(low, abs=5e-5),
            pytest.approx(high, abs=5e-5),
        )
    assert metrics.wilson_interval(29, 29)[1] == 1.0
    for successes, n in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError):
            metrics.wilson_interval(successes, n)


def resample(labels: np.ndarray, predictions: np.ndarray, name: str, classes: int) -> tuple[float, float]:
    """The bootstrap as everybody writes it: draw items, score, sort."""
    rng = np.random.default_rng(1)
    values = []
    for _ in range(1500):
        chosen = rng.integers(0, len(labels), len(labels))
        values.append(metrics.score(name, labels[chosen], predictions[chosen], classes))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "matthews"])
def test_bootstrap_equals_drawing_items(name: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    predictions = np.where(rng.random(150) < 0.8, labels, rng.integers(0, 3, 150))
    low, high = metrics.bootstrap_interval(name, labels, predictions, 3, samples=4000)
    assert (low, high) == (
        pytest.approx(resample(labels, predictions, name, 3)[0], abs=0.015),
        pytest.approx(resample(labels, predictions, name, 3)[1], abs=0.015),
    )
    assert low < metrics.score(name, labels, predictions, 3) < high


def test_bootstrap_is_seeded_and_bears_a_rare_class() -> None:
    labels, predictions = [0] * 30 + [1, 2], [0] * 30 + [2, 2]
    first = metrics.bootstrap_interval("f1_macro", labels, predictions, 4, seed=5)
    assert first == metrics.bootstrap_interval("f1_macro", labels, predictions, 4, seed=5)
    assert all(0.0 <= value <= 1.0 for value in first)
    mixed = np.random.default_rng(0).integers(0, 4, (2, 200))
    intervals = {metrics.bootstrap_interval("f1_macro", *mixed, 4, seed=seed) for seed in (5, 6, 5)}
    assert len(intervals) == 2


def test_paired_drop() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    baseline = np.where(rng.random(1000) < 0.95, labels, 1 - labels)
    candidate = baseline.copy()
    candidate[:20] = 1 - labels[:20]
    drop, (low, high) = metrics.paired_drop("accuracy", labels, baseline, candidate, 2)
    before = metrics.score("accuracy", labels, baseline, 2)
    assert drop == pytest.approx(before - metrics.score("accuracy", labels, candidate, 2))
    assert 0.0 < low < drop < high
    # Pairing: two systems that err alike differ by far less than each one's own interval is wide.
    alone = metrics.bootstrap_interval("accuracy", labels, candidate, 2)
    assert high - low < alone[1] - alone[0]
    assert metrics.paired_drop("f1", labels, baseline, baseline, 2) == (0.0, (0.0, 0.0))
    better, _ = metrics.paired_drop("accuracy", labels, candidate, baseline, 2)
    assert better == pytest.approx(-drop)
