"""The golden samples of a bundle: what every device must give again, step by step.

Text to token ids, token ids to logits, logits to the answer: a label and its score. One JSON object a line. Every
sample is computed as a batch of one, because a graph with dynamic int8 quantizes its activations over the whole batch.
Logits are written with all their digits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Optional

from pocketformer.runtime.errors import VerificationError
from pocketformer.runtime.strict_json import parse_json

if TYPE_CHECKING:
    from pocketformer.runtime.model import Model


LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class GoldenSample:
    """One text, its token ids (truncated, not padded), its logits in the order of the labels, its label.

    ``score`` is the softmax probability of the label, computed from these logits in double precision; None in bundles
    of before it was written.
    """

    text: str
    input_ids: tuple[int, ...]
    logits: tuple[float, ...]
    label: str
    score: Optional[float] = None


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
        best = row.index(max(row))
        samples.append(GoldenSample(text, ids, row, model.labels[best], softmax(row, best)))
    return samples


def softmax(logits: Sequence[float], index: int) -> float:
    """The probability of ``logits[index]`` among them, in double precision."""
    top = max(logits)
    return math.exp(logits[index] - top) / math.fsum(math.exp(value - top) for value in logits)


def golden_to_jsonl(samples: Sequence[GoldenSample]) -> str:
    """The text of ``golden.jsonl``: plain ASCII, so that any text at all survives any host's reader."""
    return "".join(
        json.dumps(
            {name: value for name, value in asdict(sample).items() if value is not None}, allow_nan=False
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
                samples.append(_sample(parse_json(line)))
            except (ValueError, TypeError, KeyError, OverflowError) as error:
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
    if not isinstance(ids, list) or not all(type(item) is int and 0 <= item <= LARGEST_ID for item in ids):
        raise TypeError(f"input_ids must be a list of whole numbers from 0 to {LARGEST_ID}")
    if not isinstance(logits, list) or not logits or not all(type(item) in (int, float) for item in logits):
        raise TypeError("logits must be a list of numbers")
    values = tuple(float(item) for item in logits)
    if not all(math.isfinite(value) for value in values):
        raise ValueError("logits must be finite")
    score = row.get("score")
    if score is not None and (type(score) not in (int, float) or not 0.0 <= score <= 1.0):
        raise ValueError("score must be a number from 0 to 1")
    return GoldenSample(text, tuple(ids), values, label, None if score is None else float(score))
