"""Other families than BERT, tiny and with random weights: typed, compared with fp32, built for one GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer.export.graph_file import load_graph, random_feeds, save_graph
from pocketformer.export.onnx_export import export_module, export_onnx
from pocketformer.export.tensorrt.build import build_engine
from pocketformer.export.tensorrt.config import EngineConfig, Profile
from pocketformer.export.tensorrt.library import Library
from pocketformer.export.tensorrt.typed_graph import agreement, write_typed_graph

_VOCABULARY = 90
_TEXT_INPUTS = ("input_ids", "attention_mask")
# Of outputs about 1 in size; float16 holds 11 bits.
_TOLERANCE = 0.02


def _distilbert(folder: Path, path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(
        vocab_size=_VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40
    )
    export_onnx(DistilBertForSequenceClassification(config).eval(), folder, path)


def _roberta(folder: Path, path: Path) -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        type_vocab_size=1,
        pad_token_id=1,
    )
    export_onnx(RobertaForSequenceClassification(config).eval(), folder, path)


def _gpt2(_: Path, path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=_VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=40, use_cache=False
    )
    # Tracing fails on its mask: this one goes the slower way.
    export_module(_outputs(GPT2LMHeadModel(config), "logits", _TEXT_INPUTS), _example(), path)


def _t5_encoder(_: Path, path: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=_VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    free = {name: {0: "batch", 1: "sequence"} for name in (*_TEXT_INPUTS, "logits")}
    _trace(_outputs(T5EncoderModel(config), "last_hidden_state", _TEXT_INPUTS), _example(), free, path)


def _example() -> dict[str, Any]:
    import torch

    ids = torch.arange(16).reshape(2, 8)
    mask = torch.ones_like(ids)
    mask[-1, -1] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _outputs(model: Any, output: str, inputs: Sequence[str]) -> Any:
    """The model as a module that takes its inputs by position and gives one output."""
    import torch

    class Text(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask)[output]

    class Picture(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Any) -> Any:
            return self.model(pixel_values=pixel_values)[output]

    return (Text() if inputs == _TEXT_INPUTS else Picture()).eval()


def _trace(module: Any, example: dict[str, Any], free: dict[str, dict[int, str]], path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(example.values()),
            str(path),
            input_names=list(example),
            output_names=["logits"],
            dynamic_axes=free,
            opset_version=18,
            dynamo=False,
        )
    save_graph(load_graph(path), path)


TEXT: dict[str, Callable[[Path, Path], None]] = {
    "distilbert": _distilbert,
    "roberta": _roberta,
    "gpt2": _gpt2,
    "t5-encoder": _t5_encoder,
}
_CONFIG = EngineConfig(compute_capabilities=("8.9",), profile=Profile(batch=(1, 2, 4), sequence=(1, 16, 32)))


@pytest.mark.parametrize("family", TEXT)
def test_a_family_of_text_models(family: str, library: Library, tiny_model_dir: Path, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    plain = tmp_path / "plain.onnx"
    TEXT[family](tiny_model_dir, plain)
    typed = write_typed_graph(plain, tmp_path / "typed.onnx", fp16=True).output
    feeds = [
        random_feeds(load_graph(plain), batch, length, vocab_size=_VOCABULARY, seed=length)
        for batch, length in ((1, 32), (3, 7))
    ]
    assert agreement(plain, typed, feeds).max_abs_difference < _TOLERANCE
    built = build_engine(typed, tmp_path / "model.engine", _CONFIG, library=library)
    assert built.metrics["layers_fp16"] > 0


def test_a_vision_model(library: Library, tmp_path: Path) -> None:
    import onnxruntime as ort
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
    )
    model = _outputs(ViTForImageClassification(config), "logits", ("pixel_values",))
    plain = tmp_path / "plain.onnx"
    free = {"pixel_values": {0: "batch"}, "logits": {0: "batch"}}
    _trace(model, {"pixel_values": torch.rand(2, 3, 32, 32)}, free, plain)
    typed = write_typed_graph(plain, tmp_path / "typed.onnx", fp16=True).output
    pixels = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    outputs = [
        ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            None, {"pixel_values": pixels}
        )[0]
        for path in (plain, typed)
    ]
    assert outputs[1].dtype == np.float32
    np.testing.assert_allclose(outputs[1], outputs[0], atol=_TOLERANCE)
    built = build_engine(typed, tmp_path / "model.engine", _CONFIG, library=library)
    assert built.metrics["layers_fp16"] > 0
