from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from pocketformer.compress.families import (
    FAMILIES,
    encoder_layers,
    family_of,
    family_of_type,
    ffn_width,
    head_count,
    head_size,
    kept_heads,
    layer_parts,
)
from pocketformer.runtime.errors import ModelError

_SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_CONFIGS: tuple[Any, ...] = (
    BertConfig(vocab_size=60, **_SHAPE),
    RobertaConfig(vocab_size=60, **_SHAPE),
    XLMRobertaConfig(vocab_size=60, **_SHAPE),
    CamembertConfig(vocab_size=60, **_SHAPE),
    ElectraConfig(vocab_size=60, embedding_size=16, **_SHAPE),
    DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=48),
)


@pytest.mark.parametrize("config", _CONFIGS, ids=lambda config: str(config.model_type))
def test_the_parts_of_every_family_are_found(config: Any) -> None:
    model = AutoModelForSequenceClassification.from_config(config)
    family = family_of(model)
    layers = encoder_layers(model, family)
    assert len(layers) == 2
    assert [head_count(layer, family) for layer in layers] == [4, 4]
    assert [head_size(layer, family) for layer in layers] == [8, 8]
    assert [ffn_width(layer, family) for layer in layers] == [48, 48]
    assert kept_heads(model, family) == [[0, 1, 2, 3]] * 2
    parts = layer_parts(model)[1]
    assert parts.query.weight.shape == parts.attention_output.weight.shape == (32, 32)
    assert parts.ffn_in.weight.shape == (48, 32)
    assert parts.ffn_out.weight.shape == (32, 48)


def test_every_model_type_belongs_to_one_family() -> None:
    types = [name for family in FAMILIES for name in family.model_types]
    assert len(types) == len(set(types))
    assert {config.model_type for config in _CONFIGS} == set(types)


def test_an_unknown_type_is_refused_with_what_is_supported() -> None:
    with pytest.raises(ModelError, match="'gpt2' cannot be pruned") as caught:
        family_of_type("gpt2")
    assert "distilbert" in str(caught.value.hint)
    small = AutoModelForSequenceClassification.from_config(
        GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20)
    )
    with pytest.raises(ModelError):
        family_of(small)


def test_a_model_with_moved_parts_is_refused() -> None:
    model = AutoModelForSequenceClassification.from_config(_CONFIGS[0])
    model.bert.encoder.layer[1].attention.self = torch.nn.Identity()
    with pytest.raises(ModelError, match=r"attention\.self\.query"):
        family_of(model)


def test_a_plain_module_and_a_decoder_are_refused() -> None:
    with pytest.raises(ModelError, match="no Transformers configuration"):
        family_of(torch.nn.Linear(2, 2))
    model = AutoModelForSequenceClassification.from_config(_CONFIGS[0])
    model.config.is_decoder = True
    with pytest.raises(ModelError, match="decoder"):
        family_of(model)
