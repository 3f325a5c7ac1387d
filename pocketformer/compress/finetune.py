"""Fine-tune: give a pretrained Transformer a head for the user's labels and train it on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pocketformer.compress.context import StepContext
from pocketformer.compress.encoding import TextEncoding, pad_batch
from pocketformer.compress.ranks import current_ranks, in_all_processes
from pocketformer.compress.training import TrainingConfig, summary_metrics, train_classifier
from pocketformer.runtime.errors import DataError
from pocketformer.runtime.results import StepResult


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Settings of ``finetune``: stops early when validation has not improved for ``patience`` epochs."""

    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(epochs=4, patience=2))


@in_all_processes
def finetune(model_dir: Path, config: FinetuneConfig, context: StepContext) -> StepResult[Path]:
    """Train the model in ``model_dir`` on the labelled train split; write it to ``context.output``.

    The head is made for the split's labels; a head of the same labels is trained on. ``DataError`` without
    labels.
    """
    import torch

    from pocketformer.compress.models import load_classifier, save_classifier
    from pocketformer.compress.prune.sparsity import hold_zeros

    train = context.splits.train
    if train.labels is None:
        raise DataError(
            "fine-tuning needs labels, and the data has none",
            hint="Name the column with --label-column, or give a model that is already fine-tuned.",
        )
    torch.manual_seed(context.seed)
    model = load_classifier(model_dir, label_names=context.splits.label_names)
    hold_zeros(model)
    encoding = TextEncoding(model_dir, context.max_length)
    rows = encoding.encode(train.texts)
    labels = train.labels

    def collate(indices: list[int]) -> dict[str, torch.Tensor]:
        batch = pad_batch([rows[index] for index in indices], encoding.pad_id)
        batch["labels"] = torch.tensor([labels[index] for index in indices])
        return batch

    summary = train_classifier(
        model,
        rows,
        collate=collate,
        compute_loss=lambda trained, batch, share: trained(**batch).loss * share.rows,
        config=config.training,
        context=context,
        encoding=encoding,
    )
    if current_ranks().rank == 0:
        save_classifier(model, model_dir, context.output)
    return StepResult(output=context.output, metrics=summary_metrics(summary, context.metric))
