"""One training loop for every step that learns: the Trainer of transformers, fed with length-bucketed batches.

The Trainer brings optimizer, schedule, mixed precision, checkpoints and several processes; this file brings the
order of the batches, which process has which rows of them, the validation metric after each epoch, and progress.
"""

from __future__ import annotations

import logging
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pocketformer.compress.context import Progress, StepContext
from pocketformer.compress.encoding import TextEncoding, TokenIds, bucketed_batches, predict_logits
from pocketformer.compress.ranks import Ranks, Share, current_ranks
from pocketformer.compress.weight_average import AVERAGED_SHARE, WeightAverage
from pocketformer.runtime.errors import ModelError
from pocketformer.runtime.metrics import metric_by_name, score

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The settings that every learning step shares.

    ``learning_rate`` None takes 2e-4 * (384 / hidden width)^2, at most 2e-4: 5e-5 for a BERT-base. Wider models
    need smaller steps; the rule passes through the usual values of both sizes. ``keep``: the weights of the epoch
    with the best validation score, of the last one, or the mean over the last steps (``weight_average``). "best"
    guards against overfitting, but lets the luck of a small validation split decide. ``patience``: stop after so
    many epochs without a better score (None: never).
    """

    epochs: float = 3.0
    learning_rate: float | None = None
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1
    patience: int | None = None
    keep: Literal["best", "last", "average"] = "best"
    train_embeddings: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """What the loop ends with: the validation score of the epoch that was kept, and what it cost."""

    score: float
    kept_epoch: float
    epochs: float
    steps: int
    seconds: float
    history: tuple[float, ...]


def default_learning_rate(hidden_size: int) -> float:
    """The rule of ``TrainingConfig.learning_rate``."""
    return min(2e-4, 2e-4 * (384 / hidden_size) ** 2)


def bucket_sampler(
    lengths: Sequence[int],
    batch_size: int,
    seed: int,
    pool: Sequence[int],
    altered: Sequence[int] = (),
    altered_share: float = 0.5,
) -> Any:
    """Iterates row indices so that consecutive batches hold rows of similar length; a new order each epoch.

    An epoch is as long as ``pool``; ``altered_share`` of it is drawn from ``altered``, the rest from ``pool``,
    both without replacement.
    """
    from torch.utils.data import Sampler

    class BucketSampler(Sampler[int]):
        def __init__(self) -> None:
            self.epoch = 0

        def __len__(self) -> int:
            return len(pool)

        def __iter__(self) -> Iterator[int]:
            rng = random.Random(seed * 1_000_003 + self.epoch)
            self.epoch += 1
            chosen = rng.sample(altered, min(round(altered_share * len(pool)), len(altered)))
            chosen += rng.sample(pool, len(pool) - len(chosen))
            for batch in bucketed_batches([lengths[index] for index in chosen], batch_size, rng):
                yield from (chosen[position] for position in batch)

    return BucketSampler()


def train_classifier(
    model: Any,
    rows: Sequence[TokenIds],
    *,
    collate: Callable[[list[int]], dict[str, torch.Tensor]],
    compute_loss: Callable[[Any, dict[str, torch.Tensor], Share], torch.Tensor],
    config: TrainingConfig,
    context: StepContext,
    encoding: TextEncoding,
    altered_share: float = 0.5,
    originals: int | None = None,
) -> TrainingSummary:
    """Train ``model`` in place and leave it with the weights that ``config.keep`` names.

    ``collate`` turns row indices into a batch; ``compute_loss`` a model, a batch and what that is of the whole batch
    into a scalar. Rows from ``originals`` on are altered copies, ``altered_share`` of each epoch. Without validation
    labels the last epoch counts. ``ModelError`` when the loss is not finite.

    Several processes divide each batch of ``config.batch_size`` rows among them: steps, learning rates and the
    gradient of a step are those of one process, up to rounding and to the masks of dropout, which each draws itself.
    """
    import torch
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import EarlyStoppingCallback

    torch.manual_seed(context.seed)
    ranks = current_ranks()
    validation = _Validation(context, encoding, ranks)
    count = len(rows) if originals is None else originals
    lengths = [len(row) for row in rows]
    sampler = bucket_sampler(
        lengths,
        config.batch_size,
        context.seed,
        range(count),
        range(count, len(rows)),
        altered_share,
    )
    frozen = _freeze_embeddings(model) if not config.train_embeddings else []
    total = max(1, round(config.epochs * -(-len(sampler) // config.batch_size)))
    latest: dict[str, float] = {}
    average = WeightAverage(model)

    def collate_part(indices: list[int]) -> dict[str, Any]:
        mine, share = ranks.part(indices, lengths)
        return {**collate(mine), "share": share}

    class Reporter(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            if config.keep == "average" and state.global_step > total * (1 - AVERAGED_SHARE):
                average.add()
            context.on_progress(Progress(step=state.global_step, total=total, figures=dict(latest)))

    class StepTrainer(Trainer):  # type: ignore[misc, unused-ignore]
        control: Any

        def _get_train_sampler(self, *_: Any) -> Any:
            return sampler

        def get_train_dataloader(self) -> Any:
            # Of one process it is the Trainer's; several are given the same batches here, and part them themselves.
            if ranks.size == 1:
                return super().get_train_dataloader()
            return DataLoader(
                self.train_dataset, batch_size=config.batch_size, sampler=sampler, collate_fn=collate_part
            )

        def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
            share = inputs.pop("share")
            loss = compute_loss(model, inputs, share)
            whole = ranks.mean(float(loss.detach()))
            if not math.isfinite(whole):
                raise ModelError(
                    "training diverged: the loss is not a finite number",
                    hint="Try a smaller learning rate, or check the data for extreme rows.",
                )
            latest["loss"] = whole
            return loss

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            latest[context.metric] = validation.score(self.model)
            metrics = {"eval_score": validation.comparable(latest[context.metric])}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    judged = validation.possible
    best = judged and config.keep == "best"
    arguments = TrainingArguments(
        output_dir=str(context.work / "checkpoints"),
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate or default_learning_rate(model.config.hidden_size),
        weight_decay=config.weight_decay,
        warmup_steps=int(config.warmup * total),
        max_steps=total,
        lr_scheduler_type="linear",
        eval_strategy="epoch" if judged else "no",
        save_strategy="epoch" if best else "no",
        save_total_limit=1,
        # A stage that is cut off starts again, so a checkpoint serves the best epoch alone: no optimizer state.
        save_only_model=True,
        load_best_model_at_end=best,
        metric_for_best_model="score",
        greater_is_better=True,
        logging_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        seed=context.seed,
        data_seed=context.seed,
        use_cpu=ranks.size > 1 and not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        average_tokens_across_devices=False,
    )
    trainer = StepTrainer(
        model=model,
        args=arguments,
        train_dataset=list(range(len(rows))),
        # evaluate() scores the validation split itself; the Trainer only wants to see that there is one.
        eval_dataset=[0] if judged else None,
        data_collator=collate_part,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Reporter())
    if judged and config.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=config.patience))
    if ranks.rank > 0:
        torch.manual_seed(context.seed + 1_000_003 * ranks.rank)  # other rows, other masks of dropout
    ranks.begin()
    started = time.perf_counter()
    with warnings.catch_warnings():
        # Said when checkpoints are rotated within a second of each other; the best one is kept by name.
        warnings.filterwarnings("ignore", message="mtime may not be reliable")
        trainer.train()
    seconds = time.perf_counter() - started
    average.apply()
    model.eval()
    for parameter in frozen:
        parameter.requires_grad_(True)
    history = tuple(entry["eval_score"] for entry in trainer.state.log_history if "eval_score" in entry)
    if average.count and judged:
        history += (validation.comparable(validation.score(model)),)
    kept = (int(np.argmax(history)) if best else len(history) - 1) if history else -1
    log.info("trained %d steps in %.0f s", trainer.state.global_step, seconds)
    return TrainingSummary(
        score=validation.comparable(history[kept]) if history else float("nan"),
        kept_epoch=float(kept + 1) if best else float(trainer.state.epoch or config.epochs),
        epochs=float(trainer.state.epoch or 0.0),
        steps=int(trainer.state.global_step),
        seconds=seconds,
        history=tuple(validation.comparable(value) for value in history),
    )


def summary_metrics(summary: TrainingSummary, metric: str) -> dict[str, float]:
    """The figures of a training as a step reports them."""
    figures = {"epochs": summary.epochs, "steps": float(summary.steps), "train_seconds": summary.seconds}
    if summary.history:
        figures |= {f"validation_{metric}": summary.score, "kept_epoch": summary.kept_epoch}
    return figures


class _Validation:
    """The validation split, tokenized once, scored after each epoch."""

    def __init__(self, context: StepContext, encoding: TextEncoding, ranks: Ranks) -> None:
        data = context.splits.validation
        self.possible = data.labels is not None and len(data) > 0
        self._labels = np.asarray(data.labels if data.labels is not None else (), dtype=np.int64)
        self._rows = encoding.encode(data.texts) if self.possible else []
        self._pad_id = encoding.pad_id
        self._metric = context.metric
        self._classes = len(context.splits.label_names)
        self._ranks = ranks
        self._sign = 1.0 if metric_by_name(context.metric).higher_is_better else -1.0

    def comparable(self, value: float) -> float:
        """The score with its sign turned where lower is better; its own inverse."""
        return self._sign * value

    def score(self, model: Any) -> float:
        rank, size = self._ranks.rank, self._ranks.size
        mine = self._rows[rank::size]
        parts = self._ranks.gather(predict_logits(model, mine, self._pad_id).argmax(-1) if mine else [])
        predictions = np.empty_like(self._labels)
        for other, part in enumerate(parts):
            predictions[other::size] = part
        return score(self._metric, self._labels, predictions, self._classes)


def _freeze_embeddings(model: Any) -> list[Any]:
    # The gradient of an embedding table is dense: updating 30,000 rows costs more than the small student itself.
    parameters = [p for p in _embeddings(model).parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    return parameters


def _embeddings(model: Any) -> Any:
    base = getattr(model, model.base_model_prefix)
    return getattr(base, "embeddings", None) or base.get_input_embeddings()
