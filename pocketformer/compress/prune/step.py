"""The two pruning steps of a recipe: structure (layers, heads, neurons) and vocabulary."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.compress.context import Progress, StepContext
from pocketformer.compress.encoding import TextEncoding, bucketed_batches, pad_batch
from pocketformer.compress.prune.config import PruneConfig, VocabularyConfig
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import torch

# Timing workloads reach to 128 tokens: a model whose texts are shorter keeps that many positions.
_FEWEST_POSITIONS = 128
# Texts that directions and norms of a narrower hidden state are fitted on: each norm takes a pass over them.
_HIDDEN_SAMPLES = 512


def prune(model_dir: Path, config: PruneConfig, context: StepContext) -> StepResult[Path]:
    """Remove layers, heads, neurons and hidden width of ``model_dir`` that the texts of the train split need least."""
    from pocketformer.compress.models import (
        DIRECTIONS_FILE,
        hidden_directions,
        load_classifier,
        save_classifier,
        structure_of,
    )
    from pocketformer.compress.prune.choosing import kept_count
    from pocketformer.compress.prune.embedding_rank import lower_embedding_rank
    from pocketformer.compress.prune.hidden import hidden_width, narrow_hidden, widest_heads
    from pocketformer.compress.prune.layers import chosen_layers, select_layers
    from pocketformer.compress.prune.structure import prune_structure
    from pocketformer.compress.prune.without_training import prune_without_training

    model = load_classifier(model_dir)
    notes: list[str] = []
    total = model.config.num_hidden_layers
    chosen = chosen_layers(config.layers, total)
    if len(chosen) < total:
        model = select_layers(model, chosen)
        notes.append(f"layers {', '.join(map(str, chosen))} of {total} stay")
    metrics: dict[str, float] = {}
    directions = None
    size = structure_of(model).layers[0].head_size
    width = kept_count(config.hidden, hidden_width(model), size)
    too_many_heads = widest_heads(model) * size > width
    if config.changes_width or too_many_heads:
        if config.method == "obs":
            result = prune_without_training(model, model_dir, config, context)
        else:
            batches = _saliency_batches(model_dir, config, context)
            result = prune_structure(model, config, batches, costs=context.costs, most_heads=width // size)
        model, metrics = result.output, dict(result.metrics)
        notes += result.notes
    if width < hidden_width(model):
        some = replace(config, samples=min(config.samples, _HIDDEN_SAMPLES))
        unlabelled = [
            {name: values for name, values in batch.items() if name != "labels"}
            for batch in _saliency_batches(model_dir, some, context)
        ]
        narrowed = narrow_hidden(model, width, unlabelled)
        model, directions = narrowed.output.model, narrowed.output.directions
        metrics |= narrowed.metrics
        notes += narrowed.notes
    if config.embedding_rank != 1.0:
        lowered = lower_embedding_rank(model, config.embedding_rank, _piece_counts(model_dir, context))
        metrics |= lowered.metrics
        notes += lowered.notes
    save_classifier(model, model_dir, context.output)
    if directions is not None:
        earlier = hidden_directions(model_dir)
        np.save(context.output / DIRECTIONS_FILE, directions if earlier is None else earlier @ directions)
    return StepResult(output=context.output, metrics=metrics, notes=tuple(notes))


def prune_vocabulary_step(
    model_dir: Path, config: VocabularyConfig, context: StepContext
) -> StepResult[Path]:
    """Remove embedding rows of ``model_dir`` that no text but those of test needs, and unused positions."""
    from pocketformer.compress.models import copy_companions, load_classifier, save_classifier
    from pocketformer.compress.prune.vocabulary import prune_vocabulary

    splits = context.splits
    texts = [*splits.train.texts, *splits.validation.texts, *splits.unlabeled]
    if config.max_positions is None:
        config = replace(config, max_positions=max(context.max_length, _FEWEST_POSITIONS))
    tokenizer_dir = context.work / "tokenizer"
    tokenizer_dir.mkdir(parents=True, exist_ok=True)
    result = prune_vocabulary(load_classifier(model_dir), model_dir, texts, config, tokenizer_dir)
    save_classifier(result.output, tokenizer_dir, context.output)
    copy_companions(model_dir, context.output)
    return StepResult(output=context.output, metrics=dict(result.metrics), notes=tuple(result.notes))


def _piece_counts(model_dir: Path, context: StepContext) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How often each piece stands in the texts of the train split, by id; ids above the largest seen are left out."""
    rows = TextEncoding(model_dir, context.max_length).encode(
        [*context.splits.train.texts, *context.splits.unlabeled]
    )
    return np.bincount(np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]))


def _saliency_batches(
    model_dir: Path, config: PruneConfig, context: StepContext
) -> Iterator[dict[str, torch.Tensor]]:
    import torch

    encoding = TextEncoding(model_dir, context.max_length)
    train = context.splits.train
    rng = random.Random(context.seed if config.seed is None else config.seed)
    chosen = rng.sample(range(len(train)), min(config.samples, len(train)))
    rows = encoding.encode([train.texts[index] for index in chosen])
    labels: Any = None if train.labels is None else [train.labels[index] for index in chosen]
    done = 0
    for indices in bucketed_batches([len(row) for row in rows], config.batch_size):
        batch = pad_batch([rows[index] for index in indices], encoding.pad_id)
        if labels is not None:
            batch["labels"] = torch.tensor([labels[index] for index in indices])
        yield batch
        done += len(indices)
        context.on_progress(Progress(step=done, total=len(rows)))
