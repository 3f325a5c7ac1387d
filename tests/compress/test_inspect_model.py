from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    RobertaConfig,
)

from pocketformer.compress.inspect_model import inspect_model
from pocketformer.compress.models import load_classifier, save_classifier
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.runtime.errors import ModelError


def _counted_macs(model: torch.nn.Module, tokens: int) -> int:
    """Matrix products of one text, counted by the profiler's FLOP counter (two for each MAC)."""
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.full((1, tokens), 5)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops() // 2


def test_figures_of_a_plain_model(tiny_model_dir: Path) -> None:
    found = inspect_model(tiny_model_dir)
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_model_dir, attn_implementation="eager"
    ).eval()
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.bytes == 4 * found.parameters
    assert (found.family, found.reason, found.labels) == ("bert", None, ("animal", "place", "person"))
    assert [(layer.heads, layer.head_size, layer.ffn) for layer in found.layers] == [(4, 8, 64)] * 3
    for tokens in (4, 9):
        assert found.macs(tokens) == _counted_macs(model, tokens)
    assert sum(part.parameters for part in found.parts) == found.parameters
    sizes = {part.name: part.parameters for part in found.parts}
    assert sizes["embeddings"] == sum(p.numel() for p in model.bert.embeddings.parameters())
    assert sizes["head"] == sum(
        p.numel() for p in (*model.bert.pooler.parameters(), *model.classifier.parameters())
    )
    assert sizes["layer 1 attention"] == sum(
        p.numel() for p in model.bert.encoder.layer[1].attention.parameters()
    )
    assert [part.name for part in found.parts][:3] == [
        "embeddings",
        "layer 0 attention",
        "layer 0 feed-forward",
    ]
    assert all(prunable.possible for prunable in found.prunable)
    written = json.loads(json.dumps(found.to_dict()))
    assert set(written["macs"]) == {"8", "32"}  # 128 is more than the 64 positions


def test_pruned_shapes_are_seen(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(tiny_model_dir)
    keep_parts(model, [[0], [1, 2], [0, 1, 2, 3]], [range(8), range(16), range(24)])
    found = inspect_model(save_classifier(model, tiny_model_dir, tmp_path / "m"))
    assert [(layer.heads, layer.ffn) for layer in found.layers] == [(1, 8), (2, 16), (4, 24)]
    assert found.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "config",
    [
        RobertaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                      max_position_embeddings=42),
        ElectraConfig(vocab_size=60, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                      intermediate_size=48, max_position_embeddings=40),
        DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40),
    ],
    ids=lambda config: str(config.model_type),
)  # fmt: skip
def test_other_families(tiny_model_dir: Path, tmp_path: Path, config: object) -> None:
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    found = inspect_model(save_classifier(model, tiny_model_dir, tmp_path / "m"))
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.macs(6) == _counted_macs(model, 6)
    assert found.positions == 40
    assert len(found.parts) == 6


def test_an_architecture_that_cannot_be_pruned_is_still_described(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=16)
    model = AutoModelForSequenceClassification.from_config(config)
    found = inspect_model(save_classifier(model, tiny_model_dir, tmp_path / "m"))
    assert found.family is None
    assert "'gpt2' cannot be pruned" in str(found.reason)
    assert found.macs(8) is None
    assert found.prunable == ()
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.to_dict()["macs"] == {}


def test_other_tokenizers_keep_their_vocabulary(tiny_model_dir: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_model_dir, tmp_path / "m"))
    content = json.loads((directory / "tokenizer.json").read_text())
    content["model"]["type"] = "BPE"
    (directory / "tokenizer.json").write_text(json.dumps(content))
    row = next(p for p in inspect_model(directory).prunable if p.what == "vocabulary")
    assert not row.possible
    assert "BPE" in row.how


def test_damage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model directory"):
        inspect_model(tmp_path / "absent")


def test_it_answers_without_loading_torch(tiny_model_dir: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pocketformer.compress.inspect_model import inspect_model;"
        f"inspect_model(Path({str(tiny_model_dir)!r}));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bytes_follow_the_stored_type(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(tiny_model_dir).to(torch.bfloat16)
    found = inspect_model(save_classifier(model, tiny_model_dir, tmp_path / "m"))
    assert found.bytes == 2 * found.parameters
