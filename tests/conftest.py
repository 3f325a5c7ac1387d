"""Fixtures that every room shares: a tiny model with a tokenizer, texts with labels, a recipe that takes seconds, and
TensorRT's library."""

from __future__ import annotations

import os

# Before torch, onnxruntime or tokenizers start their thread pools: oversubscription makes two cores crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import ast
import csv
import functools
import importlib.util
import random
import string
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pocketformer.pipeline.recipe import Recipe
    from pocketformer.runtime.tensorrt.library import Library

pytest_plugins = ("loopback_device",)

# How long an example takes says how busy the machine is, and nothing of the code. Folders may serve many examples.
_UNASKED = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
settings.register_profile("any machine", deadline=None, suppress_health_check=_UNASKED)
settings.load_profile("any machine")

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
def small_bundle(tiny_model_dir: Path, tiny_texts: list[str], tmp_path_factory: Any) -> Path:
    """A bundle of the tiny model; not to be changed."""
    from pocketformer.compress.models import load_classifier
    from pocketformer.export.bundle import write_bundle
    from pocketformer.export.onnx_export import export_onnx
    from pocketformer.runtime.manifest import SessionSettings

    folder = tmp_path_factory.mktemp("small-bundle")
    return write_bundle(
        folder / "bundle",
        graph=export_onnx(load_classifier(tiny_model_dir), tiny_model_dir, folder / "model.onnx").output,
        tokenizer_json=tiny_model_dir / "tokenizer.json",
        labels=TINY_LABELS, max_length=16, pad_id=0, golden_texts=tiny_texts[:4], precision="fp32", target="cpu",
        session=SessionSettings(intra_op_threads=1, spinning=False), provenance={}, name="tiny",
    ).output  # fmt: skip


@pytest.fixture(scope="session")
def key_pair(tmp_path_factory: Any) -> tuple[Path, Path]:
    """The PEM files of an Ed25519 key, as OpenSSL writes them: (private, public)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = tmp_path_factory.mktemp("keys")
    key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (folder / "private.pem").write_bytes(private)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)
    return folder / "private.pem", folder / "public.pem"


@pytest.fixture(scope="session")
def openvino() -> None:
    """Without OpenVINO and its quantizer, what needs them is skipped."""
    for name in ("openvino", "nncf"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'needs {name}: pip install "pocketformer[nncf]"')


@pytest.fixture(scope="session")
def openvino_bundle(small_bundle: Path, openvino: None, tiny_texts: list[str], tmp_path_factory: Any) -> Path:
    """The small bundle with its graph in OpenVINO; not to be changed."""
    from pocketformer.compress.quantize.openvino import write_openvino
    from pocketformer.export.bundle import write_bundle
    from pocketformer.runtime.manifest import SessionSettings

    folder = tmp_path_factory.mktemp("openvino-bundle")
    return write_bundle(
        folder / "bundle",
        graph=write_openvino(small_bundle / "model.onnx", folder / "model.xml").output,
        tokenizer_json=small_bundle / "tokenizer.json",
        labels=TINY_LABELS, max_length=16, pad_id=0, golden_texts=tiny_texts[:4], precision="fp32-weights-fp16",
        target="cpu", engine="openvino", session=SessionSettings(intra_op_threads=1), provenance={}, name="tiny",
    ).output  # fmt: skip


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
        {"bench": {"rounds": 5, "loadgen_s": 0, "cold_starts": 0, "roofline": False}},
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


@pytest.fixture(scope="session")
def emulated_python() -> Callable[[str], Path]:
    """For the name of an ARM64 processor a program that stands for ``python3`` on a board with it."""
    from emulation import aarch64

    def make(cpu: str) -> Path:
        try:
            python: Path = aarch64.emulated_python(cpu)
        except aarch64.EmulationError as error:
            pytest.skip(f"no ARM64 machine can be emulated here: {error}")
        return python

    return make


@pytest.fixture(scope="session")
def library() -> Library:
    """The installed TensorRT; without one, what needs it is skipped."""
    from pocketformer.runtime.errors import MissingDependencyError
    from pocketformer.runtime.tensorrt.library import load_library

    try:
        return load_library()
    except MissingDependencyError as error:
        pytest.skip(f"{error.message}; {error.hint}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Fail on a skip where everything is installed: a hole would not be seen.

    A GPU is nothing that one installs, and LiteRT's converter is too large for every run.
    """
    report = yield
    if (
        report.skipped
        and os.environ.get("POCKETFORMER_FORBID_SKIPS") == "1"
        and not hasattr(report, "wasxfail")
        and not (item.get_closest_marker("gpu") and why_no_gpu())
        and not (item.get_closest_marker("litert_export") and why_no_litert_export())
    ):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped where skips are forbidden: {report.longrepr}"
    return report


@functools.cache
def why_no_gpu() -> str | None:
    """What keeps tests marked ``gpu`` from running here; None where CUDA shows a GPU."""
    from pocketformer.runtime.backends.cuda import why_no_gpu

    return why_no_gpu()


@functools.cache
def why_no_litert_export() -> str | None:
    """What keeps tests marked ``litert_export`` from running here; None where the converter is installed."""
    from pocketformer.export.litert import require_litert
    from pocketformer.runtime.errors import MissingDependencyError

    try:
        require_litert()
    except MissingDependencyError as error:
        return str(error)
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU or LiteRT's converter where there is none, and say why."""
    reason = why_no_gpu() if item.get_closest_marker("gpu") else None
    if reason is not None:
        pytest.skip(f"needs an NVIDIA GPU: {reason}")
    reason = why_no_litert_export() if item.get_closest_marker("litert_export") else None
    if reason is not None:
        pytest.skip(reason)


def _parse_python_3_9(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            keywords = {keyword.arg for keyword in node.keywords}
            assert not (name == "dataclass" and keywords & {"kw_only", "slots"}), f"{path}:{node.lineno}"
            assert not (name == "zip" and "strict" in keywords), f"{path}:{node.lineno}"
        # Aliases are run, whatever __future__ says of annotations.
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
            assert not isinstance(node.value.op, ast.BitOr), f"{path}:{node.lineno}: X | Y at run time"
    return tree


@pytest.fixture(scope="session")
def python_3_9() -> Callable[[Path], ast.Module]:
    """Parses a file and asserts that Python 3.9 can read and import it."""
    return _parse_python_3_9
