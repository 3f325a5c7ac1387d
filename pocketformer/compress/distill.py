"""Distill: a student with some of the teacher's layers learns to give the teacher's answers.

The student starts from layers of the model it is given (Sanh et al. 2019, DistilBERT) and learns from soft
labels (Hinton et al. 2015) and from either the teacher's hidden states (Jiao et al. 2020, TinyBERT) or its
self-attention relations (Wang et al. 2021, MiniLMv2). Labels are not used: the teacher speaks for them, so
text without labels (``--unlabeled``) and altered text serve as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pocketformer.compress.augmentation import AugmentationConfig, augment, nearest_tokens
from pocketformer.compress.context import Progress, StepContext
from pocketformer.compress.encoding import TextEncoding, TokenIds, pad_batch
from pocketformer.compress.ranks import Share, current_ranks, in_all_processes
from pocketformer.compress.teacher_cache import teacher_cache
from pocketformer.compress.training import (
    TrainingConfig,
    default_learning_rate,
    summary_metrics,
    train_classifier,
)
from pocketformer.runtime.errors import ModelError, RecipeError
from pocketformer.runtime.manifest import sha256_directory
from pocketformer.runtime.results import StepResult

if TYPE_CHECKING:
    import torch

_KEPT_BYTES = 4_000_000_000
_WHOLE = Share()


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Settings of ``distill``.

    ``layers``: indices of the layers that the student starts from, or how many, or which share of them, spread
    evenly (None keeps all: recovery after pruning). ``temperature`` 1 asks for the teacher's probabilities
    themselves; higher ones stress how it ranks the labels that it rejects, and took the student further from its
    answers to unseen questions. ``match``: what is imitated beside the logits (of the last layer's
    hidden states only the first position, which the head reads); ``match_weight``: its weight against
    the soft-label loss. A ``training.learning_rate`` of None takes twice that of fine-tuning: the teacher's answers
    are a steadier guide than labels. ``relation_heads``: MiniLMv2's number of relation heads; None takes the
    teacher's number of heads, or the largest divisor of it that both widths allow.
    """

    layers: tuple[int, ...] | int | float | None = None
    temperature: float = 1.0
    match: Literal["hidden_states", "relations", "none"] = "hidden_states"
    match_weight: float = 1.5
    relation_heads: int | None = None
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(epochs=6, learning_rate=None, keep="average")
    )


@in_all_processes
def distill(
    model_dir: Path,
    config: DistillConfig,
    context: StepContext,
    *,
    computing: Callable[[Any], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> StepResult[Path]:
    """Train the student taken from ``model_dir`` to imitate ``context.teacher``; write it to ``context.output``.

    While it is trained and scored, the student computes as within ``computing`` (quantization-aware training).
    ``RecipeError`` without a teacher; ``ModelError`` when widths do not allow what is to be matched.
    """
    import torch

    from pocketformer.compress.models import hidden_directions, load_classifier, save_classifier
    from pocketformer.compress.prune.layers import chosen_layers, select_layers
    from pocketformer.compress.prune.sparsity import hold_zeros

    if context.teacher is None:
        raise RecipeError(
            "distillation needs a teacher", hint="Give a model with a trained head, or fine-tune first."
        )
    ranks = current_ranks()
    torch.manual_seed(context.seed)
    student = load_classifier(model_dir)
    teacher = load_classifier(context.teacher)
    notes: list[str] = []
    if config.layers is not None:
        total = student.config.num_hidden_layers
        chosen = chosen_layers(config.layers, total)
        student = select_layers(student, chosen)
        notes.append(f"student starts from layers {', '.join(map(str, chosen))} of {total}")
    hold_zeros(student)
    matcher = _Matcher(config, student, teacher, hidden_directions(model_dir))

    encoding = TextEncoding(context.teacher, context.max_length)
    own_encoding = TextEncoding(model_dir, context.max_length)
    own_ids = encoding.ids_for(own_encoding)
    originals = encoding.encode([*context.splits.train.texts, *context.splits.unlabeled])
    rows = [*originals, *_altered(originals, encoding, teacher, config.augmentation, context)]
    matcher.choose_kept(sum(map(len, rows)), teacher)
    if ranks.rank > 0:
        ranks.agree()  # process 0 has asked the teacher by then
    cache = teacher_cache(
        lambda: teacher,
        rows,
        pad_id=encoding.pad_id,
        vectors=matcher.teacher_view,
        folder=context.cache or context.work,
        key=f"{sha256_directory(context.teacher)} {matcher.reads}",
        on_batch=lambda done: context.on_progress(Progress(step=done, total=len(rows), figures={})),
        computes=ranks.rank == 0,
    )
    if ranks.rank == 0:
        ranks.agree()

    def collate(indices: list[int]) -> dict[str, torch.Tensor]:
        batch = pad_batch([rows[index] for index in indices], encoding.pad_id)
        if own_ids is not None:
            batch["input_ids"] = torch.from_numpy(own_ids)[batch["input_ids"]]
        batch["teacher_logits"] = cache.logits[indices]
        vectors = cache.batch(indices, batch["input_ids"].shape[1], matcher.chosen)
        if vectors is not None:
            batch["teacher_vectors"] = vectors
        return batch

    with computing(student):
        summary = train_classifier(
            student,
            rows,
            collate=collate,
            compute_loss=matcher.loss,
            config=_training(config, student),
            context=context,
            encoding=own_encoding,
            originals=len(originals),
            altered_share=config.augmentation.share,
        )
    matcher.close()
    if ranks.rank == 0:
        save_classifier(student, model_dir, context.output)
    return StepResult(
        output=context.output, metrics=summary_metrics(summary, context.metric), notes=tuple(notes)
    )


def _altered(
    originals: Sequence[TokenIds],
    encoding: TextEncoding,
    teacher: Any,
    config: AugmentationConfig,
    context: StepContext,
) -> list[TokenIds]:
    nearest = None
    if config.copies and config.swap:
        nearest = nearest_tokens(
            teacher.get_input_embeddings().weight,
            (token for row in originals for token in row),
            config.neighbours,
            encoding.special_ids,
        )
    return augment(originals, encoding.special_ids, context.max_length, config, context.seed, nearest)


class _Matcher:
    """Ties the losses to the two models: which vectors are read where, and how they are compared."""

    def __init__(
        self,
        config: DistillConfig,
        student: Any,
        teacher: Any,
        directions: np.ndarray[Any, np.dtype[np.float32]] | None = None,
    ) -> None:
        import torch

        self._config = config
        student_layers = student.config.num_hidden_layers
        teacher_layers = teacher.config.num_hidden_layers
        self._teacher_width = int(teacher.config.hidden_size)
        self._student_vectors: list[torch.Tensor] = []
        self._teacher_vectors: list[torch.Tensor] = []
        self._handles: list[Any] = []
        # Of a student that was narrowed only what it has room for is asked.
        self._narrowing: torch.Tensor | None = None
        if config.match == "hidden_states":
            own, width = int(student.config.hidden_size), self._teacher_width
            if own != width:
                if directions is None or directions.shape != (width, own):
                    raise ModelError(
                        f"hidden states of width {own} cannot be matched with width {width}",
                        hint="Use match: relations, which compares models of different width.",
                    )
                self._narrowing = torch.from_numpy(directions)
            # After its j-th layer the student should stand where the teacher stands after the same share of its own.
            self._blocks = [(j + 1) * teacher_layers // student_layers for j in range(student_layers)]
            self._kept = self._blocks
        elif config.match == "relations":
            self._relation_heads = _relation_heads(config, student, teacher)
            self._handles += self._listen(student, student_layers - 1, self._student_vectors)
            self._handles += self._listen(teacher, teacher_layers - 1, self._teacher_vectors)

    @staticmethod
    def _listen(model: Any, layer: int, into: list[torch.Tensor]) -> list[Any]:
        from pocketformer.compress.families import layer_parts

        parts = layer_parts(model)[layer]
        return [
            linear.register_forward_hook(lambda _module, _inputs, output: into.append(output))
            for linear in (parts.query, parts.key, parts.value)
        ]

    @property
    def reads(self) -> str:
        """What is read of the teacher, in words that differ whenever it differs."""
        return f"{self._config.match} {getattr(self, '_kept', '')}"

    @property
    def chosen(self) -> list[int] | None:
        """Which of the vectors that ``teacher_view`` gives this student imitates; None: all."""
        if self._config.match != "hidden_states":
            return None
        return [self._kept.index(block) for block in self._blocks]

    def choose_kept(self, tokens: int, teacher: Any) -> None:
        """Keep what the teacher says after each layer where the disk bears it: students of all depths share it then."""
        layers, width = teacher.config.num_hidden_layers, teacher.config.hidden_size
        if self._config.match == "hidden_states" and tokens * layers * width * 2 <= _KEPT_BYTES:
            self._kept = list(range(1, layers + 1))

    def teacher_view(
        self, teacher: Any, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits and the vectors to imitate, [vectors, batch, length, width] or None."""
        import torch

        self._teacher_vectors.clear()
        out = teacher(**batch, output_hidden_states=self._config.match == "hidden_states")
        if self._config.match == "hidden_states":
            return out.logits, torch.stack([out.hidden_states[block] for block in self._kept])
        if self._config.match == "relations":
            return out.logits, torch.stack(self._teacher_vectors)
        return out.logits, None

    def loss(self, student: Any, batch: dict[str, torch.Tensor], share: Share = _WHOLE) -> torch.Tensor:
        """Soft-label loss plus the weighted matching loss of one batch, or of this process's share of it."""
        from pocketformer.compress.distill_core import hidden_state_loss, relation_loss, soft_label_loss

        self._student_vectors.clear()
        config = self._config
        mask = batch["attention_mask"]
        out = student(
            input_ids=batch["input_ids"],
            attention_mask=mask,
            output_hidden_states=config.match == "hidden_states",
        )
        loss = soft_label_loss(out.logits, batch["teacher_logits"], config.temperature) * share.rows
        if config.match == "none":
            return loss
        targets = batch["teacher_vectors"]
        if config.match == "hidden_states":
            pairs: Sequence[tuple[torch.Tensor, torch.Tensor]] = list(
                zip(out.hidden_states[1:], targets, strict=True)
            )
            masks = [mask] * (len(pairs) - 1) + [self._read_by_head(mask)]
            shares = [share.tokens] * (len(pairs) - 1) + [share.rows]
            matched = [
                hidden_state_loss(mine, target if self._narrowing is None else target @ self._narrowing, m)
                * part
                for (mine, target), m, part in zip(pairs, masks, shares, strict=True)
            ]
        else:
            matched = [
                relation_loss(mine, target, mask, self._relation_heads) * share.tokens
                for mine, target in zip(self._student_vectors, targets, strict=True)
            ]
        for term in matched:
            loss = loss + config.match_weight * term
        return loss

    @staticmethod
    def _read_by_head(mask: torch.Tensor) -> torch.Tensor:
        """The first position alone: no supported head reads another, so the last layer need not imitate the others."""
        first = mask.new_zeros(mask.shape)
        first[:, 0] = mask[:, 0]
        return first

    def close(self) -> None:
        """Take the hooks out of the models again."""
        for handle in self._handles:
            handle.remove()


def _training(config: DistillConfig, student: Any) -> TrainingConfig:
    if config.training.learning_rate is not None:
        return config.training
    return replace(config.training, learning_rate=2 * default_learning_rate(student.config.hidden_size))


def _relation_heads(config: DistillConfig, student: Any, teacher: Any) -> int:
    from pocketformer.compress.families import layer_parts

    widths = [int(layer_parts(model)[-1].query.out_features) for model in (student, teacher)]
    if config.relation_heads is None:
        return math.gcd(int(teacher.config.num_attention_heads), *widths)
    if any(width % config.relation_heads for width in widths):
        raise RecipeError(
            f"relation_heads is {config.relation_heads}, which does not divide the widths {widths[0]} and {widths[1]}",
            hint=f"Use a divisor of {math.gcd(*widths)}, or leave it out.",
        )
    return config.relation_heads
