"""A classical baseline: TF-IDF and logistic regression. It tells whether a Transformer was worth training at all."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from pocketformer.compress.data import Dataset
from pocketformer.runtime.errors import DataError


def tfidf_predictions(
    train: Dataset, texts: Sequence[str], *, seed: int = 0
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Label indices that TF-IDF (words and word pairs) with logistic regression, fitted on ``train``, gives ``texts``.

    ``DataError`` when ``train`` has no labels or no text with a word.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if train.labels is None:
        raise DataError("the classical baseline needs labels")
    # Single letters and digits count as words too: short questions hang on them.
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\S+")
    classifier = LogisticRegression(C=10.0, max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model = make_pipeline(vectorizer, classifier).fit(list(train.texts), list(train.labels))
        except ValueError as error:
            raise DataError(f"the classical baseline cannot be fitted: {error}") from error
    return np.asarray(model.predict(list(texts)), dtype=np.int64)
