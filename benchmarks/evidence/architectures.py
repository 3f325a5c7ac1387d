"""Six architectures with random weights as fp32 ONNX files: they prove structure and are never scored.

All are exported by optimum with its own description of the architecture, as ``pocketformer export`` does with text
classifiers. The other three are no classifiers of text, and nothing in the package exports them: ViT classifies
pictures of a fixed size; GPT-2 gives the next token's logits at every position, without a cache; T5 is encoder and
decoder in one graph, which takes ``decoder_input_ids`` beside the text, without a cache.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evidence.table import EvidenceError
from pocketformer.export.graph_file import load_graph, save_graph

_OPSET = 18
_PICTURE = (3, 32, 32)  # channels, height, width
_POSITIONS = 128

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model is made; ``inner`` is the width of its feed-forward parts."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    inner: int = 128
    vocabulary: int = 200


# Model class, configuration class and optimum's name of the task, all by name: importing this needs no transformers.
ARCHITECTURES: Mapping[str, tuple[str, str, str]] = {
    "bert": ("BertForSequenceClassification", "BertConfig", "text-classification"),
    "distilbert": ("DistilBertForSequenceClassification", "DistilBertConfig", "text-classification"),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", "text-classification"),
    "vit": ("ViTForImageClassification", "ViTConfig", "image-classification"),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", "text-generation"),
    "t5": ("T5ForConditionalGeneration", "T5Config", "text2text-generation"),
}


def write_architecture(name: str, path: Path, size: Size | None = None) -> Path:
    """Write the architecture as fp32 ONNX with free batch and sequence axes; the same weights every time."""
    import torch
    import transformers
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    size = size or Size()
    model_class, config_class, task = ARCHITECTURES[name]
    torch.manual_seed(0)
    settings = getattr(transformers, config_class)(**_settings(name, size))
    model = getattr(transformers, model_class)(settings).eval()
    description = TasksManager.get_exporter_config_constructor(
        exporter="onnx", model=model, task=task, library_name="transformers"
    )(settings)
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a tracer warns of every shape that it fixes
            export(model=model, config=description, output=path, opset=_OPSET)
    finally:
        logging.disable(previous)
    graph = load_graph(path)
    for item in graph.graph.input:
        if item.name == "pixel_values":  # an engine's pictures have one size
            for axis, length in zip(item.type.tensor_type.shape.dim[1:], _PICTURE, strict=True):
                axis.dim_value = length
    return save_graph(graph, path)


def write_pruned(_: str, path: Path, size: Size | None = None) -> Path:
    """Write a BERT whose heads and neurons the package has pruned, all layers but the first, as fp32 ONNX."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from pocketformer.compress.prune.config import PruneConfig
    from pocketformer.compress.prune.structure import prune_structure
    from pocketformer.export.onnx_export import export_onnx

    size = size or Size()
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**_settings("bert", size))).eval()
    ids = torch.randint(2, size.vocabulary, (16, 12))
    batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}]
    config = PruneConfig(heads=0.5, ffn=0.5, protected_layers=(0,), samples=16, batch_size=16)
    pruned = prune_structure(model, config, batches)
    widths = {pruned.metrics[f"layer_{index}_ffn"] for index in range(size.layers)}
    if len(widths) == 1:
        raise EvidenceError(f"all layers were pruned to the same width {widths}: this was to be about others")
    return export_onnx(pruned.output, path.parent, path).output


def make_feeds(graph: Path, *, count: int = 4, seed: int = 0, vocabulary: int = 200) -> list[Feed]:
    """Random inputs of several shapes for any of the graphs, padded on the right; int64, pictures float32."""
    names = [item.name for item in load_graph(graph).graph.input]
    rng = np.random.default_rng(seed)
    return [
        _feed(names, rng, vocabulary, batch=1 + number % 3, length=5 + 7 * number) for number in range(count)
    ]


def _feed(names: list[str], rng: np.random.Generator, vocabulary: int, *, batch: int, length: int) -> Feed:
    ids = rng.integers(2, vocabulary, (batch, length))
    mask = np.ones((batch, length), np.int64)
    mask[-1, max(1, length // 2) :] = 0
    made = {
        "input_ids": ids * mask,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.broadcast_to(np.arange(length), ids.shape).copy(),
        "decoder_input_ids": rng.integers(2, vocabulary, (batch, max(1, length - 2))),
        "pixel_values": rng.normal(size=(batch, *_PICTURE)).astype(np.float32),
    }
    return {name: made[name] for name in names}


def _settings(name: str, size: Size) -> dict[str, Any]:
    usual = {
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.inner,
    }
    words = {"vocab_size": size.vocabulary}
    text = words | {"max_position_embeddings": _POSITIONS}
    distilbert = {
        "dim": size.hidden,
        "n_layers": size.layers,
        "n_heads": size.heads,
        "hidden_dim": size.inner,
    }
    gpt2 = {"n_embd": size.hidden, "n_layer": size.layers, "n_head": size.heads, "n_inner": size.inner}
    t5 = {"d_model": size.hidden, "num_layers": size.layers, "num_heads": size.heads, "d_ff": size.inner}
    return {
        "bert": usual | text,
        # Its positions begin behind the padding's.
        "roberta": usual | text | {"max_position_embeddings": _POSITIONS + 2, "type_vocab_size": 1},
        "distilbert": distilbert | text,
        "vit": usual | {"image_size": _PICTURE[1], "patch_size": 8},
        "gpt2": gpt2 | words | {"n_positions": _POSITIONS, "use_cache": False},
        "t5": t5
        | words
        | {"d_kv": size.hidden // size.heads, "use_cache": False, "decoder_start_token_id": 0},
    }[name]
