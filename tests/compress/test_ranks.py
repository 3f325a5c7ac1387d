"""Training in several processes: real ones, started by torchrun, on gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.compress.distill import DistillConfig, _Matcher
from pocketformer.compress.encoding import pad_batch
from pocketformer.compress.models import load_classifier
from pocketformer.compress.ranks import Ranks, Share
from pocketformer.pipeline.recipe import Recipe

ROWS = [[2, 8, 9, 3], [2, 10, 3], [2, 11, 12, 13, 14, 3], [2, 9, 3], [2, 12, 10, 8, 3]]


def test_every_row_is_some_process_s_once() -> None:
    batch, lengths = [3, 0, 4, 1, 2], [len(row) for row in ROWS]
    parts = [Ranks(rank, 3).part(batch, lengths) for rank in range(3)]
    assert sorted(row for mine, _ in parts for row in mine) == [0, 1, 2, 3, 4]
    assert sum(share.rows for _, share in parts) == pytest.approx(3)
    assert sum(share.tokens for _, share in parts) == pytest.approx(3)
    assert Ranks().part(batch, lengths) == (batch, Share())
    # A batch may have fewer rows than there are processes.
    assert Ranks(2, 3).part([1, 4], lengths) == ([1], Share(rows=0, tokens=0))


@pytest.mark.parametrize("match", ["hidden_states", "relations", "none"])
def test_the_mean_of_the_parts_gradients_is_the_gradient_of_the_whole(
    tiny_model_dir: Path, match: Any
) -> None:
    """Rows of different length, so that equal weights would be wrong; three processes for five rows."""
    import torch

    student, teacher = load_classifier(tiny_model_dir).eval(), load_classifier(tiny_model_dir).eval()
    with torch.no_grad():
        for weight in student.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    matcher = _Matcher(DistillConfig(match=match), student, teacher)

    def gradients(parts: list[tuple[list[int], Share]]) -> dict[str, torch.Tensor]:
        student.zero_grad()
        for mine, share in parts:
            inputs = pad_batch([ROWS[row] for row in mine], 0)
            with torch.no_grad():
                logits, vectors = matcher.teacher_view(teacher, inputs)
            targets = {} if vectors is None else {"teacher_vectors": vectors}
            loss = matcher.loss(student, {**inputs, "teacher_logits": logits, **targets}, share)
            (loss / len(parts)).backward()
        return {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}

    lengths = [len(row) for row in ROWS]
    whole = gradients([(list(range(5)), Share())])
    parted = [Ranks(rank, 3).part(range(5), lengths) for rank in range(3)]
    found = gradients(parted)
    even = gradients([(mine, Share()) for mine, _ in parted])
    largest = max(float(grad.abs().max()) for grad in whole.values())
    off = max(float((found[name] - whole[name]).abs().max()) for name in whole)
    assert off < 1e-5 * largest
    assert max(float((even[name] - whole[name]).abs().max()) for name in whole) > 100 * off


def _without_dropout(model: Path, to: Path) -> Path:
    to.mkdir()
    for file in model.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    config = json.loads((to / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (to / "config.json").write_text(json.dumps(config))
    return to


def _run(processes: int, recipe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "pocketformer", "run"]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [*command, str(recipe), "-o", str(out), "--json"],
        env=environment, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip


def _weights(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors.numpy import load_file

    return load_file(path / "model.safetensors")


@pytest.mark.slow
def test_two_processes_make_the_model_of_one(
    tiny_recipe: Recipe, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Fine-tuned and distilled, from the same recipe, without dropout."""
    model = _without_dropout(tiny_model_dir, tmp_path / "model")
    training = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3}
    values = tiny_recipe.model_dump(mode="json", exclude={"steps", "choices"})
    recipe = Recipe.from_mapping(
        {
            **values,
            "model": model,
            "steps": [
                {"finetune": {"training": {**training, "keep": "best"}}},
                {"distill": {"layers": 2, "augmentation": {"copies": 1}, "training": training}},
            ],
        }
    )
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    done = [_run(count, tmp_path / "recipe.yaml", tmp_path / f"of-{count}") for count in (1, 2)]
    assert [d.returncode for d in done] == [0, 0], done[1].stderr
    one, two = (json.loads(d.stdout) for d in done)  # one document: only process 0 prints
    assert "Traceback" not in done[1].stderr
    for alone, together in zip(one["stages"], two["stages"], strict=True):
        assert together["metrics"]["steps"] == alone["metrics"]["steps"]
        assert together["metrics"]["validation_accuracy"] == alone["metrics"]["validation_accuracy"]
    start = _weights(model)
    for stage in ("01-finetune", "02-distill"):
        alone, together = (_weights(tmp_path / f"of-{n}" / "stages" / stage / "model") for n in (1, 2))
        assert alone.keys() == together.keys()
        for name, weight in alone.items():
            # The gradient of a key's bias is nothing but rounding (softmax takes no notice of it), and Adam makes
            # steps of the usual length of it.
            if not name.endswith("key.bias"):
                np.testing.assert_allclose(together[name], weight, atol=2e-5, err_msg=f"{stage} {name}")
        assert max(np.abs(alone[n] - start[n]).max() for n in start if n in alone) > 2e-3
