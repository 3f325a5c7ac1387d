"""Distillation losses: tensors in, scalar tensors out. No model, no data.

Shapes: B batch, S sequence, H width, C classes. ``mask`` is [B, S], 1 where a token stands.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def soft_label_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), mean over the batch; logits [B, C].

    Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2: the factor T^2
    keeps the gradient's size when the temperature changes.
    """
    log_student = functional.log_softmax(student / temperature, dim=-1)
    target = functional.softmax(teacher / temperature, dim=-1)
    return functional.kl_div(log_student, target, reduction="batchmean") * temperature**2


def hidden_state_loss(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the tokens that stand; both [B, S, H].

    Jiao et al. 2020, "TinyBERT", equation 8, without the projection: the widths are equal here.
    """
    keep = mask.bool()
    return functional.mse_loss(student[keep], teacher[keep])


def relation_loss(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, relation_heads: int
) -> torch.Tensor:
    """KL between the self-attention relations of one kind of vector (queries, keys or values).

    Wang et al. 2021, "MiniLMv2", equations 3 to 5: vectors [B, S, width] are split into ``relation_heads``
    heads; a relation is softmax(A A^T / sqrt(head width)) over the tokens that stand. The widths of student
    and teacher may differ; each must be divisible by ``relation_heads`` (``ValueError``).
    """

    def log_relation(vectors: torch.Tensor) -> torch.Tensor:
        batch, length, width = vectors.shape
        if width % relation_heads:
            raise ValueError(f"width {width} is not divisible by {relation_heads} relation heads")
        heads = vectors.reshape(batch, length, relation_heads, width // relation_heads).transpose(1, 2)
        scores = heads @ heads.transpose(-1, -2) / (width // relation_heads) ** 0.5
        scores = scores.masked_fill(~mask.bool()[:, None, None, :], torch.finfo(scores.dtype).min)
        return functional.log_softmax(scores, dim=-1)

    log_student, log_teacher = log_relation(student), log_relation(teacher)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)  # [B, heads, S]
    rows = mask.bool()[:, None, :].expand_as(divergence)
    return divergence[rows].mean()
