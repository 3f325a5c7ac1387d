"""The golden samples of a bundle: inputs, token ids and logits that every device must give again.

One JSON object a line. Every sample is computed as a batch of one, because a graph with dynamic int8
quantizes its activations over the whole batch. Logits are written with all their digits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pocketformer.runtime.errors import VerificationError

if TYPE_CHECKING:
    from pocketformer.runtime.model import Model


@dataclass(frozen=True)
class GoldenSample:
    """One text, its token ids (truncated, not padded), its logits in the order of the labels, its label."""

    text: str
    input_ids: tuple[int, ...]
    logits: tuple[float, ...]
    label: str


def make_golden(model: Model, texts: Sequence[str]) -> list[GoldenSample]:
    """Golden samples of ``texts`` by the shipped graph itself, each as a batch of one.

    Raises ``VerificationError`` when a logit is not finite: such a graph must not be shipped.
    """
    samples = []
    for text in texts:
        row = tuple(model.logits([text])[0].tolist())
        if not all(math.isfinite(value) for value in row):
            raise VerificationError(
                f"the graph answers {text[:60]!r} with logits that are not finite: {list(row)}",
                hint="Do not ship this graph; try another quantization.",
            )
        ids = tuple(model.encode([text])["input_ids"][0].tolist())
        samples.append(GoldenSample(text, ids, row, model.labels[row.index(max(row))]))
    return samples


def golden_to_jsonl(samples: Sequence[GoldenSample]) -> str:
    """The text of ``golden.jsonl``: plain ASCII, so that any text at all survives any host's reader."""
    return "".join(
        json.dumps(
            {
                "text": sample.text,
                "input_ids": list(sample.input_ids),
                "logits": list(sample.logits),
                "label": sample.label,
            },
            allow_nan=False,
        )
        + "\n"
        for sample in samples
    )


def golden_from_jsonl(text: str) -> list[GoldenSample]:
    """Read ``golden.jsonl``; blank lines are passed over.

    Raises ``VerificationError`` naming the line that is wrong, or when there is no sample at all.
    """
    samples = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                samples.append(_sample(json.loads(line)))
            except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
                reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
                raise VerificationError(
                    f"golden samples, line {number}: {reason}", hint="The bundle is damaged: copy it again."
                ) from error
    if not samples:
        raise VerificationError(
            "there are no golden samples, so nothing can be replayed",
            hint="Write the bundle with golden texts.",
        )
    return samples


def _sample(row: Any) -> GoldenSample:
    if not isinstance(row, dict):
        raise TypeError("not a JSON object")
    text, label, ids, logits = row["text"], row["label"], row["input_ids"], row["logits"]
    if not isinstance(text, str) or not isinstance(label, str):
        raise TypeError("text and label must be text")
    if not isinstance(ids, list) or not all(type(item) is int for item in ids):
        raise TypeError("input_ids must be a list of whole numbers")
    if not isinstance(logits, list) or not logits or not all(type(item) in (int, float) for item in logits):
        raise TypeError("logits must be a list of numbers")
    values = tuple(float(item) for item in logits)
    if not all(math.isfinite(value) for value in values):
        raise ValueError("logits must be finite")
    return GoldenSample(text, tuple(ids), values, label)
