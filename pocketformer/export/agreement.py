"""How near the answers of two bundles lie, text by text: what another form of a graph costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pocketformer.runtime.errors import InputError, ParityError
from pocketformer.runtime.model import Model


@dataclass(frozen=True, kw_only=True)
class TextAgreement:
    """Over ``texts``: the largest difference of a logit, and how many got the label that they had before."""

    texts: int
    max_abs_difference: float
    same_labels: int

    @property
    def same_share(self) -> float:
        """Share of the texts with the same label, in [0, 1]."""
        return self.same_labels / self.texts

    def sentence(self) -> str:
        """For a note."""
        return (
            f"{self.same_labels} of {self.texts} texts get the label that they had, logits differ by at most "
            f"{self.max_abs_difference:.3g}"
        )


def compare_models(before: Model, after: Model, texts: Sequence[str]) -> TextAgreement:
    """Compare on ``texts``, a batch of one each, as the golden samples are. ``InputError`` without texts.

    ``ParityError`` when ``after`` gives something that is no number.
    """
    if not texts:
        raise InputError("two models are compared on texts, and there are none", hint="Name a file of texts.")
    largest, same = 0.0, 0
    for text in texts:
        expected, actual = before.logits([text])[0], after.logits([text])[0]
        if not np.isfinite(actual).all():
            raise ParityError(
                f"{text[:60]!r} gets logits that are not numbers: {actual.tolist()}",
                hint="Do not ship this form; try another precision.",
            )
        largest = max(largest, float(np.abs(actual - expected).max()))
        same += int(actual.argmax() == expected.argmax())
    return TextAgreement(texts=len(texts), max_abs_difference=largest, same_labels=same)
