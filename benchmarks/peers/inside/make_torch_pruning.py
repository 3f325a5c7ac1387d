"""Torch-Pruning, fine-tuning, then dynamic int8: the usual way to make a model smaller without a toolchain.

Pruned as its example for Hugging Face's BERT: magnitude importance, the same ratio of hidden width, FFN and heads
everywhere, in one step. Then fine-tuned on the training rows, exported by torch and quantized as optimum does.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from job import Job, job_of_command_line
from make_optimum import quantize
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup
from transformers.models.bert.modeling_bert import BertSelfAttention

PACKAGES = ["torch-pruning", "onnxruntime", "optimum-onnx", "torch", "transformers"]
_BATCH = 32
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def batch_of(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Padded to the longest row: int64 [batch, sequence] by input name."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def prune(model: Any, example: dict[str, torch.Tensor], ratio: float) -> None:
    """Remove that share of the hidden width, of every FFN and of all heads, in place."""
    attentions = [module for module in model.modules() if isinstance(module, BertSelfAttention)]
    heads = {p: a.num_attention_heads for a in attentions for p in (a.query, a.key, a.value)}
    pruner = tp.pruner.BasePruner(
        model,
        example,
        importance=tp.importance.MagnitudeImportance(p=2, group_reduction="mean"),
        global_pruning=False,
        iterative_steps=1,
        pruning_ratio=ratio,
        num_heads=heads,
        prune_num_heads=True,
        prune_head_dims=False,
        head_pruning_ratio=ratio,
        output_transform=lambda output: output.logits.sum(),
        ignored_layers=[model.classifier, model.bert.pooler.dense],
    )
    for group in pruner.step(interactive=True):
        group.prune()
    for attention in attentions:
        attention.num_attention_heads = pruner.num_heads[attention.query]
        attention.all_head_size = attention.query.out_features
        attention.attention_head_size = attention.all_head_size // attention.num_attention_heads


def finetune(model: Any, job: Job, epochs: int, learning_rate: float) -> None:
    """Cross-entropy on the training rows: AdamW, linear decay after a tenth of warm-up."""
    torch.manual_seed(0)
    shuffle = random.Random(0)
    rows, order = job.token_ids(job.texts), list(range(len(job.texts)))
    steps = epochs * -(-len(rows) // _BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for epoch in range(epochs):
        shuffle.shuffle(order)
        total = 0.0
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            labels = torch.tensor([job.labels[index] for index in chosen])
            loss = model(**batch_of([rows[index] for index in chosen]), labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += float(loss.detach()) * len(chosen)
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(order):.4f}", flush=True)
    model.eval()


def export(model: Any, example: dict[str, torch.Tensor], job: Job) -> Path:
    """An fp32 ONNX file with free batch and sequence axes beside the teacher's config; the folder of it."""
    folder = job.output / "exported"
    folder.mkdir()
    shutil.copy(job.teacher / "config.json", folder)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> Any:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits

    axes = {name: {0: "batch", 1: "sequence"} for name in _INPUTS}
    torch.onnx.export(
        Logits().eval(),
        tuple(example[name] for name in _INPUTS),
        folder / "model.onnx",
        input_names=list(_INPUTS),
        output_names=["logits"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    return folder


def main() -> None:
    job = job_of_command_line()
    torch.set_num_threads(job.threads)
    settings = job.settings
    model = AutoModelForSequenceClassification.from_pretrained(job.teacher).eval()
    example = batch_of(job.token_ids(job.texts[:2]))
    before, _ = tp.utils.count_ops_and_params(model, example)
    prune(model, example, settings["ratio"])
    after, parameters = tp.utils.count_ops_and_params(model, example)
    finetune(model, job, settings["epochs"], settings["learning_rate"])
    with torch.no_grad():
        exported = export(model, example, job)
    output = job.output / "model"
    quantization = quantize(exported, output, per_channel=False)
    shutil.rmtree(exported)
    file = next(iter(sorted(output.glob("*.onnx"))))
    how = {**settings, **quantization, "macs_left": after / before, "parameters": int(parameters)}
    job.done(file, ships=[file], packages=PACKAGES, how=how)


if __name__ == "__main__":
    main()
