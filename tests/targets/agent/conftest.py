"""The agent as one file, and a bundle of the tiny model for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.runtime.manifest import SessionSettings
from pocketformer.runtime.model import Model, load
from pocketformer.targets.agent.build import build_agent


@dataclass(frozen=True)
class Spoken:
    """How an agent ended, and its events."""

    code: int
    events: list[dict[str, Any]]
    err: str

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    @property
    def error(self) -> dict[str, Any]:
        """The one error, which stands last and says the exit code that the process ended with."""
        (error,) = self.of("error")
        assert self.events[-1] == error
        assert error["exit_code"] == self.code
        return error


def bare_environment() -> dict[str, str]:
    """Nothing that could lend the agent this checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_agent(tmp_path_factory.mktemp("agent") / "agent.pyz")


@pytest.fixture(scope="session")
def run_agent(agent: Path) -> Callable[..., Spoken]:
    def run(*arguments: object, python: tuple[str, ...] = (), stdin: bytes = b"") -> Spoken:
        done = subprocess.run(
            [sys.executable, *python, str(agent), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
            cwd=agent.parent,
            env=bare_environment(),
        )
        events = [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]
        return Spoken(done.returncode, events, done.stderr.decode())

    return run


def _write_graph(path: Path, vocabulary: int) -> None:
    """Embeddings of words and of 64 positions, averaged under the mask: random weights, and no torch to wait for."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    shapes = {"words": (vocabulary, 128), "places": (64, 128), "types": (2, 128), "head": (128, 3)}
    constants = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name in ("places", "types"):
        constants[name] *= 0.1  # the words decide, so that texts get different labels
    integers = {"one": np.array(1), "axis": np.array(1), "last": np.array([-1]), "row": np.array([1])}
    steps = [
        ("Mul", ["token_type_ids", "zero"], "zeros"),
        ("Add", ["zeros", "one"], "ones"),
        ("CumSum", ["ones", "axis"], "count"),
        ("Sub", ["count", "one"], "positions"),
        ("Gather", ["words", "input_ids"], "w"),
        ("Gather", ["places", "positions"], "p"),
        ("Gather", ["types", "token_type_ids"], "t"),
        ("Sum", ["w", "p", "t"], "x"),
        ("Unsqueeze", ["attention_mask", "last"], "m"),
        ("CastLike", ["m", "x"], "mask"),
        ("Mul", ["x", "mask"], "kept"),
        ("ReduceSum", ["kept", "row"], "total"),
        ("ReduceSum", ["mask", "row"], "length"),
        ("Div", ["total", "length"], "mean"),
        ("Squeeze", ["mean", "row"], "pooled"),
        ("MatMul", ["pooled", "head"], "logits"),
    ]
    names = ("input_ids", "attention_mask", "token_type_ids")
    integers["zero"] = np.array(0)
    graph = helper.make_graph(
        [helper.make_node(kind, taken, [given]) for kind, taken, given in steps],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in {**constants, **integers}.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def _write_tokenizer(path: Path, texts: list[str]) -> int:
    """Whole words between special tokens; returns how many there are."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({word for text in texts for word in text.split()})]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))
    return len(words)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle; not to be changed: `bundle` gives a copy."""
    from pocketformer.export.bundle import write_bundle

    folder = tmp_path_factory.mktemp("tiny-bundle")
    _write_graph(folder / "model.onnx", _write_tokenizer(folder / "tokenizer.json", tiny_texts))
    return write_bundle(
        folder / "cpu",
        graph=folder / "model.onnx",
        tokenizer_json=folder / "tokenizer.json",
        labels=("animal", "place", "person"),
        max_length=16,
        pad_id=0,
        golden_texts=tiny_texts[:5],
        precision="fp32",
        target="cpu",
        session=SessionSettings(intra_op_threads=1, spinning=False),
        provenance={"model": "tiny"},
        name="tiny",
    ).output


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def model(tiny_bundle: Path) -> Model:
    return load(tiny_bundle)


@pytest.fixture(scope="session")
def inputs(tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "inputs.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_texts))
    return path


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Any]:
    """Mount a disk of a given size and return its folder."""
    mounted = []

    def mount(size: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip("needs the right to mount a small disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
