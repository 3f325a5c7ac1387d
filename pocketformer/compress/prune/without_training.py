"""Smaller models of one teacher that need no training: cut by optimal brain surgeon, rebuilt layer by layer.

What all sizes share is done once (``Surgeon``); a size is then made in seconds, so that the smallest one that still
does the job can be searched for (``within_drop``).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pocketformer.compress.context import Progress, StepContext
from pocketformer.compress.encoding import TextEncoding, TokenIds, bucketed_batches, pad_batch
from pocketformer.compress.prune.choosing import choose, counted_costs, sizes, wanted_counts
from pocketformer.compress.prune.config import PruneConfig
from pocketformer.compress.prune.costs import BlockCosts
from pocketformer.compress.prune.moments import collect_moments
from pocketformer.compress.prune.obs import cut_and_compensate, obs_paths
from pocketformer.compress.prune.reconstruction import block_sums, reconstruct
from pocketformer.compress.prune.structure import check_settings
from pocketformer.compress.prune.within_drop import TRIALS, Judge, describe, search_share
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

# What the layers of the whole model gave is kept in memory: 2 x layers x hidden float32 for each token.
_MOST_TOKENS = 16_384
_RIDGE = 0.01


class Surgeon:
    """Makes models of any size out of one. ``rows`` are the texts that it goes by, as token ids."""

    def __init__(
        self,
        model: PreTrainedModel,
        rows: Sequence[TokenIds],
        pad_id: int,
        config: PruneConfig,
        *,
        seed: int,
        on_text: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._config = config
        lengths = [len(row) for row in rows]
        self._batches = [
            pad_batch([rows[index] for index in indices], pad_id)
            for indices in bucketed_batches(lengths, config.batch_size)
        ]
        self._moments = collect_moments(model, self._batches, seed=seed, on_batch=on_text)
        self._paths = obs_paths(model, self._moments)
        self._sums = block_sums(model, self._batches)

    def smallest_share(self, costs: BlockCosts | None) -> float:
        """The share of the cost below which there is no model: one head and the fewest neurons in every layer."""
        costs = costs or counted_costs(self._model, self._config.tokens)
        fewest = replace(self._config, cost=None, heads=1, ffn=1)
        return costs.total(*wanted_counts(self._model, fewest)) / costs.total(*sizes(self._model))

    def cut(self, config: PruneConfig, context: StepContext) -> PreTrainedModel:
        """A copy of the model with what ``config`` leaves, rebuilt."""
        choices = choose(self._model, self._paths, config, context.costs)
        smaller = cut_and_compensate(self._model, self._moments, choices)
        reconstruct(smaller, self._sums, self._batches, ridge=_RIDGE)
        return smaller


def prune_without_training(
    model: PreTrainedModel, model_dir: Path, config: PruneConfig, context: StepContext
) -> StepResult[PreTrainedModel]:
    """Remove heads and neurons of ``model`` so that what stays needs no training; ``config.method`` is "obs".

    With ``config.cost`` "budget" the smallest size is searched whose expected drop keeps ``context.max_drop``.
    Metrics: ``examples``, ``parameters_before``, ``parameters_after``, ``cost_share`` (of the whole encoder) and the
    ``cost_limit`` that it was to keep, ``layer_N_heads``, ``layer_N_ffn``, ``prune_s``; of a search ``search_s``
    instead, ``trials`` and the figures of the model taken. Errors as of ``prune_structure``.
    """
    check_settings(model, config)
    started = time.perf_counter()
    encoding = TextEncoding(model_dir, context.max_length)
    rows = _rows(encoding, config, context)
    judge = Judge(model, encoding, context) if config.cost == "budget" else None
    total = len(rows) * (1 if judge is None else 1 + TRIALS)
    surgeon = Surgeon(
        model,
        rows,
        encoding.pad_id,
        config,
        seed=context.seed if config.seed is None else config.seed,
        on_text=lambda done: context.on_progress(Progress(step=done, total=total)),
    )
    metrics: dict[str, float] = {"examples": float(len(rows))}
    notes = [f"{config.allocation} allocation by optimal brain surgeon, weights refitted layer by layer"]
    if judge is not None:

        def attempt(share: float) -> PreTrainedModel:
            return surgeon.cut(replace(config, cost=share), context)

        found = search_share(
            attempt,
            judge,
            smallest=surgeon.smallest_share(context.costs),
            on_trial=lambda number: context.on_progress(Progress(step=len(rows) * (1 + number), total=total)),
        )
        smaller = found.model
        notes += [describe(trial) for trial in found.trials]
        notes.append(found.verdict)
        metrics |= {"trials": float(len(found.trials)), **found.taken.metrics()}
        metrics["cost_limit"] = found.taken.share
    else:
        smaller = surgeon.cut(config, context)
        if isinstance(config.cost, float):
            metrics["cost_limit"] = config.cost
    costs = context.costs or counted_costs(model, config.tokens)
    metrics |= {
        "parameters_before": float(sum(p.numel() for p in model.parameters())),
        "parameters_after": float(sum(p.numel() for p in smaller.parameters())),
        "cost_share": costs.total(*sizes(smaller)) / costs.total(*sizes(model)),
    }
    for index, (heads, width) in enumerate(zip(*sizes(smaller), strict=True)):
        metrics[f"layer_{index}_heads"] = float(heads)
        metrics[f"layer_{index}_ffn"] = float(width)
    metrics["search_s" if judge else "prune_s"] = time.perf_counter() - started
    return StepResult(output=smaller, metrics=metrics, notes=tuple(notes))


def _rows(encoding: TextEncoding, config: PruneConfig, context: StepContext) -> list[TokenIds]:
    """Texts of the train split, drawn at random, as many as are asked for and fit into memory."""
    texts = context.splits.train.texts
    rng = random.Random(context.seed if config.seed is None else config.seed)
    chosen = rng.sample(range(len(texts)), min(config.samples, len(texts)))
    rows = encoding.encode([texts[index] for index in chosen])
    kept: list[TokenIds] = []
    tokens = 0
    for row in rows:
        tokens += len(row)
        if kept and tokens > _MOST_TOKENS:
            break
        kept.append(row)
    return kept
