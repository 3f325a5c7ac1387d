"""A model that int8 breaks: the run finds the product that must stay in float32, says so, and can be repeated."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from pocketformer.compress.encoding import TextEncoding, predict_logits
from pocketformer.compress.models import load_classifier, save_classifier
from pocketformer.pipeline.choice import Tried
from pocketformer.pipeline.fallback import Fallback
from pocketformer.pipeline.recipe import Recipe
from pocketformer.pipeline.run import run


@pytest.fixture(scope="module")
def recipe(tiny_model_dir: Path, tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """One neuron of the middle layer is always 1000 and nothing reads it; the labels are the model's own answers."""
    import torch

    folder = tmp_path_factory.mktemp("planted")
    model = load_classifier(tiny_model_dir)
    generator = torch.Generator().manual_seed(3)
    encoding = TextEncoding(tiny_model_dir, 16)
    rows = encoding.encode(tiny_texts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        layer = model.bert.encoder.layer[1]
        layer.intermediate.dense.weight[3] = 0
        layer.intermediate.dense.bias[3] = 1000
        layer.output.dense.weight *= 20
        layer.output.dense.weight[:, 3] = 0
        logits = predict_logits(model, rows, encoding.pad_id)
        model.classifier.bias -= torch.from_numpy(logits.mean(axis=0))  # so that answers differ
    answers = predict_logits(model, rows, encoding.pad_id).argmax(-1)
    assert len(set(answers.tolist())) == 3
    save_classifier(model, tiny_model_dir, folder / "model")
    data = folder / "rows.csv"
    with data.open("w", encoding="utf-8", newline="") as file:
        labels = [model.config.id2label[int(answer)] for answer in answers]
        csv.writer(file).writerows([("text", "label"), *zip(tiny_texts, labels, strict=True)])
    train = folder / "train.csv"
    train.write_text(
        "text,label\n" + "".join(f"a {i} {name},{name}\n" for i in range(4) for name in set(labels))
    )
    quantize = {"candidates": ["dynamic-fused-reduced"], "rounds": 1, "tune_session": False}
    return Recipe.from_mapping(
        {
            "model": folder / "model",
            "data": {"train": train, "validation": data},
            "budget": {"max_drop": 0.02},
            "max_length": 16,
            "threads": 1,
            "steps": ["export", {"quantize": quantize}],
        }
    )


def test_the_most_sensitive_product_stays_in_float32(recipe: Recipe, tmp_path: Path) -> None:
    first = run(recipe, tmp_path / "first")
    record = first.records[1]
    rows = {row["name"]: row for row in record["details"]["candidates"]}
    assert record["details"]["teacher_metric"] == 1.0
    assert rows["dynamic-fused-reduced"]["metric"] < 0.9
    taken = rows["dynamic-fused-reduced-mixed"]
    # No scale of a channel mends a channel that nothing reads.
    assert rows["dynamic-fused-reduced-smooth"]["metric"] < 0.9
    assert taken["taken"]
    assert taken["metric"] >= 0.98
    # The head's last product has so few weights that it is worth float32 for the least error.
    kept = record["choices"]["float_products"]
    assert len(kept) <= 3
    assert any("layer.1/output/dense" in name for name in kept)
    said = f"{len(kept)} of 16 products stay in float32: {', '.join(kept)}"
    assert said in taken["reason"]
    assert any(said in note for note in record["notes"])
    # The resolved recipe makes the same graph again, without measuring.
    again = run(Recipe.from_file(tmp_path / "first" / "recipe.yaml"), tmp_path / "again")
    assert again.records[1]["outputs"] == record["outputs"]
    assert [row["name"] for row in again.records[1]["details"]["candidates"]] == [
        "dynamic-fused-reduced-mixed"
    ]


def test_training_for_quantization_is_a_step(recipe: Recipe, tmp_path: Path) -> None:
    training = {"epochs": 1, "batch_size": 8, "keep": "last"}
    qat = {"weight_bits": 4, "distillation": {"augmentation": {"copies": 0}, "training": training}}
    values = recipe.model_dump(mode="json", exclude={"steps", "choices"})
    (record,) = run(Recipe.from_mapping({**values, "steps": [{"qat": qat}]}), tmp_path / "out").records
    assert record["config"]["distillation"]["training"]["epochs"] == 1.0
    assert {"quantized_accuracy", "validation_accuracy"} <= set(record["metrics"])
    assert load_classifier(tmp_path / "out" / "stages" / "01-qat" / "model").config.num_hidden_layers == 3


def _fallback(tmp_path: Path) -> Fallback:
    def never(*_: Any) -> Any:
        raise AssertionError("nothing is to be made")

    return Fallback(
        keeps_drop=lambda metric: metric >= 0.9,
        graph=never,
        make=never,
        sample=(),
        calibration=never,
        work=tmp_path,
        note=print,
    )


def _tried(metric: float, local: str = "") -> Tried:
    return Tried(
        name="dynamic-fused", precision="int8-dynamic", metric=metric, path=Path("q.onnx"), local=local
    )


def test_it_is_not_asked_for_where_it_is_not_needed_or_cannot_help(tmp_path: Path) -> None:
    fallback = _fallback(tmp_path)
    assert fallback.forms([_tried(0.95)], lambda: 1.0) == []
    # In float32 the model does not keep the drop either.
    assert fallback.forms([_tried(0.5)], lambda: 0.8) == []
    assert fallback.forms([Tried(name="fp32", precision="fp32", metric=0.5)], lambda: 1.0) == []
    with pytest.raises(AssertionError):
        fallback.forms([_tried(0.95, local="overflows here")], lambda: 1.0)
