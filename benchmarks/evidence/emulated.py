"""One int8 and one fp32 model here and on emulated ARM64 processors: what each gives for the same inputs.

The model is the student of ``out/demo`` where that run is there, on its test texts; else a BERT of that size with
random weights on random tokens. The int8 form is static QDQ with 8-bit weights, which overflow on x86 without VNNI:
the figures here come from onnxruntime's exact integer products, which is what VNNI computes as well.
"""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from evidence.products import products_of
from evidence.table import EvidenceError
from evidence.workspace import child_environment, output_of

CPUS = ("cortex-a76", "cortex-a72")
GRAPHS = ("fp32", "int8", "products")
TEXTS = 100
_CALIBRATION = 64
_INSIDE = Path(__file__).parent / "inside" / "run_graph.py"
_EMULATION = Path("tests/emulation/aarch64.py")
_RANDOM = {
    "hidden_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 12,
    "intermediate_size": 512,
    "vocab_size": 2000,
    "max_position_embeddings": 128,
    "num_labels": 6,
}

Feed = Mapping[str, NDArray[np.int64]]
Arrays = Mapping[str, NDArray[Any]]


def run_everywhere(root: Path, folder: Path) -> dict[str, Any]:
    """Run the three graphs here and on ``CPUS``, with their outputs in ``folder/WHERE-GRAPH.npz``; what was run.

    ``root`` is the checkout. ``EvidenceError`` where no ARM64 processor can be emulated.
    """
    environment = child_environment(folder / "cache")
    pythons = {}
    for cpu in CPUS:
        command = [sys.executable, str(root / _EMULATION), "--cpu", cpu]
        # With the user's own cache: what lies there is named by its versions.
        pythons[cpu] = output_of(command, environment=os.environ, folder=root).strip()
    what, graph, feeds = _student(root) or _random_model(folder)
    feeds = feeds[:TEXTS]
    _make_graphs(graph, feeds, folder)
    places = (("here", sys.executable, "exact"), *((cpu, pythons[cpu], "usual") for cpu in CPUS))
    for where, python, how in places:
        argv = [python, str(_INSIDE), how]
        for name in GRAPHS:
            inputs = "inputs-products.npz" if name == "products" else "inputs.npz"
            argv += [str(folder / file) for file in (f"{name}.onnx", inputs, f"{where}-{name}.npz")]
        output_of(argv, environment=environment, folder=folder, limit_s=1800.0)
    return {"what": what, "texts": len(feeds)}


def subject_name(root: Path) -> str:
    """A word for the model that ``run_everywhere`` takes, another for every other graph."""
    graph = _student_graph(root)
    return "random" if graph is None else f"student-{hashlib.sha256(graph.read_bytes()).hexdigest()[:12]}"


def outputs(folder: Path, where: str, graph: str) -> list[NDArray[Any]]:
    """The outputs of a graph in the order of the texts (of products: all of them for each text)."""
    with np.load(folder / f"{where}-{graph}.npz") as arrays:
        found = {key: arrays[key] for key in arrays.files}
    return [found[key] for key in sorted(found, key=lambda key: (int(key.split("/")[0]), key))]


def _student_graph(root: Path) -> Path | None:
    run = root / "out" / "demo"
    graphs = sorted(run.glob("stages/*-export/model.onnx"))
    whole = (run / "recipe.yaml").is_file() and (run / "bundles" / "cpu").is_dir()
    return graphs[-1] if graphs and whole else None


def _student(root: Path) -> tuple[str, Path, list[Feed]] | None:
    from pocketformer.runtime.model import load

    graph = _student_graph(root)
    if graph is None:
        return None
    run = root / "out" / "demo"
    data = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))["data"]
    with Path(data["test"]).open(encoding="utf-8", newline="") as handle:
        texts = [row[data.get("text_column", "text")] for row in csv.DictReader(handle)]
    model = load(run / "bundles" / "cpu")
    return "the demo's student on its test questions", graph, [model.encode([text]) for text in texts]


def _random_model(folder: Path) -> tuple[str, Path, list[Feed]]:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from pocketformer.export.onnx_export import export_onnx

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**_RANDOM)).eval()
    graph = export_onnx(model, folder, folder / "random.onnx").output
    rng = np.random.default_rng(0)
    feeds = []
    for length in rng.integers(5, 20, TEXTS):
        ids = rng.integers(2, _RANDOM["vocab_size"], (1, length))
        feeds.append(
            {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        )
    return "a BERT with random weights, 3 layers of 384, on random tokens", graph, feeds


def _make_graphs(graph: Path, feeds: Sequence[Feed], folder: Path) -> None:
    """``fp32.onnx``, ``int8.onnx`` and ``products.onnx`` with their inputs, beside each other."""
    import onnx
    import onnxruntime as ort

    from pocketformer.compress.quantize.config import StaticConfig
    from pocketformer.compress.quantize.onnxruntime_static import quantize_static

    (folder / "fp32.onnx").write_bytes(graph.read_bytes())
    names = [item.name for item in onnx.load(str(graph)).graph.input]
    feeds = [{name: feed[name] for name in names} for feed in feeds]
    quantize_static(graph, folder / "int8.onnx", StaticConfig(), feeds[:_CALIBRATION])
    model = onnx.load(str(folder / "int8.onnx"))
    products = products_of(model)
    onnx.save(products, str(folder / "products.onnx"))
    tensors = [item.name for item in products.graph.input]
    known = {item.name for item in model.graph.output}
    model.graph.output.extend(item for item in products.graph.input if item.name not in known)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    _save(folder / "inputs.npz", feeds)
    _save(
        folder / "inputs-products.npz",
        [dict(zip(tensors, session.run(tensors, feed), strict=True)) for feed in feeds],
    )


def _save(path: Path, batches: Sequence[Arrays]) -> None:
    arrays = {
        f"{number}/{name}": value for number, batch in enumerate(batches) for name, value in batch.items()
    }
    if not arrays:
        raise EvidenceError("there are no inputs to run")
    np.savez(path, **arrays)
