from __future__ import annotations

import numpy as np
import pytest

from pocketformer.compress.prune.nearest_core import nearest


def _rows(seed: int, count: int, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def test_equals_a_search_row_by_row() -> None:
    rows, kept = _rows(0, 2500), _rows(1, 17)  # more rows than one block
    index, cosine = nearest(rows, kept)
    for row, i, similarity in zip(rows[::50], index[::50], cosine[::50], strict=True):
        each = [float(row @ other / np.linalg.norm(row) / np.linalg.norm(other)) for other in kept]
        assert i == np.argmax(each)
        assert similarity == pytest.approx(max(each), rel=1e-5)


def test_length_does_not_matter() -> None:
    kept = np.array([[1, 0], [0, 100]], dtype=np.float32)
    index, cosine = nearest(np.array([[5, 1]], dtype=np.float32), kept)
    assert index.tolist() == [0]
    assert cosine[0] == pytest.approx(5 / np.sqrt(26))


def test_rows_of_zeros_are_no_trouble_and_nothing_kept_is() -> None:
    index, cosine = nearest(np.zeros((3, 4), dtype=np.float32), np.ones((2, 4), dtype=np.float32))
    assert index.tolist() == [0, 0, 0]
    assert cosine.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="no rows"):
        nearest(np.ones((1, 4), dtype=np.float32), np.ones((0, 4), dtype=np.float32))
