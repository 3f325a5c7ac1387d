"""A bundle of the tiny model, written by hand through Manifest: the runtime is tested without its writer."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pocketformer.runtime.engine import OnnxRuntimeEngine
from pocketformer.runtime.golden import golden_to_jsonl, make_golden
from pocketformer.runtime.manifest import (
    FileEntry,
    Manifest,
    Postprocessing,
    Preprocessing,
    SessionSettings,
    TensorSpec,
    file_entry,
)
from pocketformer.runtime.model import Model, load
from pocketformer.runtime.text import TextEncoder

TINY_LABELS = ("animal", "place", "person")
MAX_LENGTH = 16
FULL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def tiny_manifest(files: dict[str, FileEntry], *, tolerance: float = 1e-4) -> Manifest:
    return Manifest(
        name="tiny",
        target="cpu",
        precision="fp32",
        inputs=tuple(TensorSpec(name) for name in FULL_INPUTS),
        outputs=(TensorSpec("logits", "float32", ("batch", "labels")),),
        preprocessing=Preprocessing(max_length=MAX_LENGTH, pad_id=0),
        postprocessing=Postprocessing(labels=TINY_LABELS),
        tolerance=tolerance,
        files=files,
        session=SessionSettings(intra_op_threads=1, spinning=False),
        provenance={"model": "tiny", "seed": 0},
        runtime={"name": "onnxruntime", "version": "1.16"},
    )


def export_graph(model_dir: Path, output: Path, inputs: tuple[str, ...] = FULL_INPUTS) -> Path:
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(model_dir, attn_implementation="eager").eval()

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return self.model(**dict(zip(inputs, tensors, strict=True))).logits

    ids = torch.randint(1, 40, (2, 7), generator=torch.Generator().manual_seed(0))
    values = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about everything; parity is tested elsewhere
        torch.onnx.export(
            Logits().eval(),
            tuple(values[name] for name in inputs),
            str(output),
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in inputs} | {"logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    return output


@pytest.fixture(scope="session")
def tiny_export(tiny_model_dir: Path) -> Callable[..., Path]:
    """Export the tiny model: tiny_export(output, inputs)."""
    return partial(export_graph, tiny_model_dir)


@pytest.fixture(scope="session")
def tiny_graph(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_graph(tiny_model_dir, tmp_path_factory.mktemp("graph") / "model.onnx")


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_graph: Path, tiny_model_dir: Path, tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A whole bundle; not to be changed: `bundle` gives a copy."""
    directory = tmp_path_factory.mktemp("bundle") / "cpu"
    directory.mkdir()
    shutil.copy(tiny_graph, directory / "model.onnx")
    shutil.copy(tiny_model_dir / "tokenizer.json", directory / "tokenizer.json")
    draft = tiny_manifest({})
    model = Model(
        draft,
        OnnxRuntimeEngine(directory / "model.onnx", draft.session),
        TextEncoder(directory / "tokenizer.json", MAX_LENGTH, 0, FULL_INPUTS),
    )
    golden = golden_to_jsonl(make_golden(model, [*tiny_texts[:8], "", "cat \ud800 dog", "cat " * 40]))
    (directory / "golden.jsonl").write_text(golden, encoding="utf-8")
    files = {path.name: file_entry(path) for path in sorted(directory.iterdir())}
    (directory / "manifest.json").write_text(tiny_manifest(files).to_json(), encoding="utf-8")
    return directory


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def tiny_runtime(tiny_bundle: Path) -> Model:
    return load(tiny_bundle)


@pytest.fixture(scope="session")
def tiny_reference(tiny_model_dir: Path, tiny_texts: list[str]) -> np.ndarray:
    """Logits of the torch model through transformers' own tokenizer: [texts, labels]."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_dir).eval()
    with torch.no_grad():
        batch = tokenizer(
            tiny_texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        )
        return model(**batch).logits.numpy()
