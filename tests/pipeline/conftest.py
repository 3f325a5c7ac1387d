"""A tiny data set on disk, and a recipe that runs the whole path in seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from pocketformer.pipeline.recipe import Recipe

LABELS = ("animal", "place", "person")


def write_rows(path: Path, texts: list[str], labels: list[int]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "label"])
        writer.writerows([text, LABELS[label]] for text, label in zip(texts, labels, strict=True))
    return path


@pytest.fixture(scope="session")
def tiny_files(
    tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str], tiny_labels: list[int]
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    train = write_rows(folder / "train.csv", tiny_texts[:45], tiny_labels[:45])
    return train, write_rows(folder / "test.csv", tiny_texts[45:], tiny_labels[45:])


@pytest.fixture(scope="session")
def tiny_recipe(tiny_model_dir: Path, tiny_files: tuple[Path, Path]) -> Recipe:
    """Every kind of step, each as short as it can be."""
    brief: dict[str, Any] = {"augmentation": {"copies": 1}}
    steps: list[Any] = [
        {"finetune": {"training": {"epochs": 1, "batch_size": 8}}},
        {"distill": {"layers": 2, "training": {"epochs": 1, "batch_size": 8}, **brief}},
        {"prune": {"heads": 2, "ffn": 32}},
        {"vocabulary": {"size": 0.9}},
        "export",
        {"quantize": {"candidates": ["fp32", "dynamic-fused-reduced", "dynamic-plain"], "rounds": 2}},
        {"bundle": {"golden": 4}},
        {"bench": {"rounds": 5, "loadgen_s": 0, "cold_starts": 0}},
        "report",
    ]
    train, test = tiny_files
    return Recipe.from_mapping(
        {
            "model": tiny_model_dir,
            "data": {"train": train, "test": test},
            "max_length": 16,
            "threads": 1,
            # Random weights: any drop is allowed, the structure is what is tested.
            "budget": {"max_drop": 1.0},
            "steps": steps,
        }
    )
