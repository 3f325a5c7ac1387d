"""Rows about equal answers: what every host gives for the same texts, against Python on this machine.

Ids must be equal. Logits of a graph with static quantization (QDQ) must be identical; of one with dynamic quantization
or floats they may differ by the bundle's stated tolerance. Answers must be identical wherever the two largest logits
differ by more than that. The golden samples are replayed by each host's own ``verify``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evidence.table import Measured, Row
from pocketformer.runtime.manifest import read_manifest

if TYPE_CHECKING:
    from evidence.embedding import EmbeddingRuns

# Emulated processors answer some of the questions.
HOSTS: Mapping[str, int | None] = {
    "node": None,
    "chromium": None,
    "c": None,
    "python-arm64": 50,
    "c-arm64": 50,
}
EXACT_FORMS = ("qdq",)
_SEED = 1
Answer = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How many answers differ in each step, and by how much logits do at most."""

    texts: int
    ids: int
    logits: int
    labels: int
    largest: float

    @property
    def wrong(self) -> int:
        """All differences together."""
        return self.ids + self.logits + self.labels


def compare(reference: Sequence[Answer], other: Sequence[Answer], tolerance: float) -> Comparison:
    """Hold a host's answers against the reference; ``tolerance`` is the largest difference of a logit allowed."""
    ids = logits = labels = 0
    largest = 0.0
    for expected, found in zip(reference, other, strict=True):
        ids += list(expected["input_ids"]) != list(found["input_ids"])
        wanted, given = np.array(expected["logits"]), np.array(found["logits"], dtype=np.float64)
        difference = float(np.abs(wanted - given).max()) if wanted.shape == given.shape else float("inf")
        logits += not difference <= tolerance  # not `>`: a NaN must count
        largest = max(largest, difference)
        second, first = np.sort(wanted)[-2:]
        labels += first - second > tolerance and expected["label"] != found["label"]
    return Comparison(texts=len(reference), ids=ids, logits=logits, labels=labels, largest=largest)


def same_answers(subject: EmbeddingRuns, host: str) -> Measured:
    """How many answers of a host, over all forms of the bundle, are not what Python gives here."""
    some = HOSTS[host]
    questions = subject.questions
    if some is not None:
        questions = random.Random(_SEED).sample(questions, some)
    wrong, parts = 0, []
    for form, bundle in subject.bundles.items():
        tolerance = 0.0 if form in EXACT_FORMS else read_manifest(bundle).tolerance
        reference = subject.rows_of("python", "answers", bundle, questions)
        found = compare(reference, subject.rows_of(host, "answers", bundle, questions), tolerance)
        code = subject.verify_code(host, bundle)
        wrong += found.wrong + (code != 0)
        golden = "golden samples hold" if code == 0 else f"verify ends with {code}"
        parts.append(
            f"{form}: {found.ids} ids, {found.logits} logits, {found.labels} labels wrong of {found.texts}, logits "
            f"differ by at most {found.largest:.2g} ({tolerance:g} allowed), {golden}"
        )
    return Measured(value=float(wrong), how="; ".join(parts))


def _row(host: str) -> Row[EmbeddingRuns]:
    some = HOSTS[host]
    texts = "all test questions" if some is None else f"{some} seeded test questions"

    def measure(subject: EmbeddingRuns) -> Measured:
        return same_answers(subject, host)

    return Row(
        id=f"same-{host}",
        what=f"{host}: golden samples and {texts} not as in Python here, of three forms of the model",
        comparator="==",
        required=0.0,
        unit="answers",
        measure=measure,
    )


ROWS = tuple(_row(host) for host in HOSTS)
