"""Where int8 products overflow, the quantizer's choice avoids it; where they do not, nothing is said of it.

The model is made so that overflow changes its answers: all weights of its feed-forward layers are large, those whose
products are added in pairs have one sign, and what they are multiplied with is mostly positive.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pocketformer.compress.encoding import TextEncoding, predict_logits
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.run import run
from pocketformer.targets.saturation import u8s8_saturates

CANDIDATES = ("dynamic-plain", "static-plain", "dynamic-plain-reduced", "static-plain-reduced")


@pytest.fixture(scope="module")
def fragile_model(
    tiny_model_dir: Path, tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    import torch
    from transformers import BertForSequenceClassification

    directory = tmp_path_factory.mktemp("fragile") / "model"
    shutil.copytree(tiny_model_dir, directory)
    model: Any = BertForSequenceClassification.from_pretrained(str(directory)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.dim() == 2:
                parameter *= 10  # fresh weights are so small that all texts get the same answer
        for layer in model.bert.encoder.layer:
            layer.attention.output.LayerNorm.bias.fill_(2.0)
            layer.output.dense.weight *= 0.1
            weight = layer.intermediate.dense.weight
            rows, columns = weight.shape
            signs = torch.randint(0, 2, (rows, columns // 2), generator=generator) * 2.0 - 1.0
            sizes = 0.1 - 0.02 * torch.rand(weight.shape, generator=generator)
            weight.copy_(signs.repeat_interleave(2, dim=1) * sizes)
        encoding = TextEncoding(directory, 16)
        logits = torch.from_numpy(predict_logits(model, encoding.encode(tiny_texts), encoding.pad_id))
        model.classifier.bias -= logits.median(dim=0).values
    model.save_pretrained(str(directory))
    return directory


@pytest.fixture(scope="module")
def fragile_data(
    fragile_model: Path, tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The labels are what the model answers in fp32."""
    from pocketformer.compress.models import load_classifier

    model = load_classifier(fragile_model)
    encoding = TextEncoding(fragile_model, 16)
    answers = predict_logits(model, encoding.encode(tiny_texts), encoding.pad_id).argmax(axis=1)
    rows = [
        f"{text},{model.config.id2label[int(answer)]}\n"
        for text, answer in zip(tiny_texts, answers, strict=True)
    ]
    folder = tmp_path_factory.mktemp("fragile-data")
    paths = folder / "train.csv", folder / "validation.csv"
    for path, part in zip(paths, (rows[:30], rows[30:]), strict=True):
        path.write_text("text,label\n" + "".join(part))
    return paths


def test_what_overflows_here_is_not_taken(
    fragile_model: Path, fragile_data: tuple[Path, Path], tmp_path: Path
) -> None:
    train, validation = fragile_data
    recipe = Recipe.from_mapping(
        {
            "model": fragile_model,
            "data": {"train": train, "validation": validation},
            "max_length": 16,
            "threads": 1,
            # Every candidate keeps it: accuracy alone rules none out.
            "budget": {"max_drop": 1.0},
            "steps": ["export", {"quantize": {"candidates": list(CANDIDATES), "rounds": 2}}],
        }
    )
    record = next(r for r in run(recipe, tmp_path / "out").records if r["name"] == "quantize")
    rows = [row for row in record["details"]["candidates"] if row["stage"] == "quantize"]
    found = {candidate["name"]: candidate for candidate in rows}
    assert list(found) == list(CANDIDATES)
    overflow = [name for name, candidate in found.items() if "overflow" in candidate["reason"]]
    remarks = [note for note in record["notes"] if "overflow" in note]
    reduced = found["dynamic-plain-reduced"]["metric"]
    assert reduced > 0.8
    if u8s8_saturates():
        # Asked alone, the accuracy on validation would have done as well.
        assert found["dynamic-plain"]["metric"] < reduced - 0.2
        assert overflow == ["dynamic-plain", "static-plain"]
        assert record["choices"]["quantize"] in ("dynamic-plain-reduced", "static-plain-reduced")
        assert "dynamic-plain, static-plain stood back" in remarks[0]
    else:
        assert found["dynamic-plain"]["metric"] > reduced - 0.2
        assert (overflow, remarks) == ([], [])
