"""A word table of lower rank: the same shape, and as two factors a third of the bytes (``export.factored_tables``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.prune.choosing import kept_count
from pocketformer.compress.prune.rank_core import weighted_low_rank
from pocketformer.runtime.errors import DataError
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def lower_embedding_rank(
    model: PreTrainedModel, rank: int | float, counts: np.ndarray[Any, np.dtype[np.int64]]
) -> StepResult[PreTrainedModel]:
    """Project the word table of ``model``, in place, on the directions that its rows need most.

    ``rank``: a count, or a share of the table's width. ``counts`` [up to rows]: how often each piece was seen, by id;
    one is added to each, for texts yet to come. What trains the table afterwards gives it its full rank again.
    Metrics: ``embedding_rank``, ``embedding_variance_kept`` (0 to 1, weighed by the counts). Raises ``DataError`` for
    counts of another vocabulary.
    """
    import torch

    weight = model.get_input_embeddings().weight
    rows, width = weight.shape
    if len(counts) > rows:
        raise DataError(
            f"the texts use piece {len(counts) - 1}, and the model has {rows} embedding rows",
            hint="Use the tokenizer that belongs to the model.",
        )
    weights = np.ones(rows)
    weights[: len(counts)] += counts
    kept = kept_count(rank, width, 1)
    table, share = weighted_low_rank(weight.detach().double().numpy(), weights, kept)
    with torch.no_grad():
        weight.copy_(torch.from_numpy(table))
    return StepResult(
        output=model,
        metrics={"embedding_rank": float(kept), "embedding_variance_kept": share},
        notes=(f"rank of the word table {width} to {kept}: {share:.1%} of what it says is kept",),
    )
