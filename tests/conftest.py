"""Fixtures that every room shares: a tiny model with a tokenizer, texts with labels, a recipe that takes seconds."""

from __future__ import annotations

import os

# Before torch, onnxruntime or tokenizers start their thread pools: oversubscription makes two cores crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import csv
import functools
import random
import string
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pocketformer.pipeline.recipe import Recipe

TINY_LABELS = ("animal", "place", "person")
_WORDS = {
    "animal": ("cat", "dog", "horse", "bird", "fish", "wolf", "purrs", "barks"),
    "place": ("paris", "river", "city", "island", "desert", "where", "capital", "lake"),
    "person": ("who", "king", "writer", "doctor", "queen", "poet", "actor", "invented"),
}
_FILLERS = ("the", "a", "is", "what", "of", "in", "old", "very", "and", "near", "##s", "##ing")


def _tiny_examples(count: int = 60, seed: int = 7) -> tuple[list[str], list[int]]:
    rng = random.Random(seed)
    texts: list[str] = []
    labels: list[int] = []
    while len(texts) < count:
        label = len(texts) % len(TINY_LABELS)
        words = [rng.choice(_WORDS[TINY_LABELS[label]]) for _ in range(rng.randint(1, 3))]
        words += [rng.choice(_FILLERS[:10]) for _ in range(rng.randint(1, 5))]
        rng.shuffle(words)
        text = " ".join(words) + " ?"
        if text not in texts:
            texts.append(text)
            labels.append(label)
    return texts, labels


@pytest.fixture(scope="session")
def tiny_texts() -> list[str]:
    return _tiny_examples()[0]


@pytest.fixture(scope="session")
def tiny_labels() -> list[int]:
    return _tiny_examples()[1]


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT classifier with random weights: it proves structure, never accuracy."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("tiny") / "model"
    directory.mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", ".", ","]
    pieces += list(string.ascii_lowercase) + ["##" + c for c in string.ascii_lowercase]
    pieces += list(_FILLERS) + [word for words in _WORDS.values() for word in words]
    vocabulary = list(dict.fromkeys(pieces))
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(
        vocab_file=str(directory / "vocab.txt"),
        vocab={p: i for i, p in enumerate(vocabulary)},
        model_max_length=64,
    )
    tokenizer.save_pretrained(str(directory))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label=dict(enumerate(TINY_LABELS)),
        label2id={name: index for index, name in enumerate(TINY_LABELS)},
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(str(directory))
    return directory


def _write_rows(path: Path, texts: list[str], labels: list[int]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "label"])
        writer.writerows([text, TINY_LABELS[label]] for text, label in zip(texts, labels, strict=True))
    return path


@pytest.fixture(scope="session")
def tiny_files(
    tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str], tiny_labels: list[int]
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    train = _write_rows(folder / "train.csv", tiny_texts[:45], tiny_labels[:45])
    return train, _write_rows(folder / "test.csv", tiny_texts[45:], tiny_labels[45:])


@pytest.fixture(scope="session")
def tiny_recipe(tiny_model_dir: Path, tiny_files: tuple[Path, Path]) -> Recipe:
    """Every kind of step, each as short as it can be."""
    from pocketformer.pipeline.recipe import Recipe

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Fail on a skip where everything is installed, so that a hole in the tests is seen.

    A GPU is not installed: without one, what needs it may be skipped.
    """
    report = yield
    if (
        report.skipped
        and os.environ.get("POCKETFORMER_FORBID_SKIPS") == "1"
        and not hasattr(report, "wasxfail")
        and not (item.get_closest_marker("gpu") and why_no_gpu())
    ):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped where skips are forbidden: {report.longrepr}"
    return report


@functools.cache
def why_no_gpu() -> str | None:
    """What keeps tests marked ``gpu`` from running here; None where CUDA shows a GPU."""
    from pocketformer.runtime.backends.cuda import why_no_gpu

    return why_no_gpu()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, and say why."""
    reason = why_no_gpu() if item.get_closest_marker("gpu") else None
    if reason is not None:
        pytest.skip(f"needs an NVIDIA GPU: {reason}")
