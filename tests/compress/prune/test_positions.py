from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
)

from pocketformer.compress.prune.positions import cut_positions, position_capacity
from pocketformer.runtime.errors import ModelError, RecipeError


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for the last bits, which may depend on where the operands lie in memory."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


_SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 30,
}
_CONFIGS: tuple[tuple[Any, int], ...] = (
    (BertConfig(max_position_embeddings=40, **_SHAPE), 40),
    (ElectraConfig(max_position_embeddings=40, embedding_size=16, **_SHAPE), 40),
    (RobertaConfig(max_position_embeddings=42, **_SHAPE), 40),
    (
        DistilBertConfig(
            max_position_embeddings=40, dim=16, n_layers=1, n_heads=2, hidden_dim=16, vocab_size=30
        ),
        40,
    ),
)


@pytest.mark.parametrize(("config", "capacity"), _CONFIGS, ids=lambda v: getattr(v, "model_type", None))
def test_short_inputs_keep_their_logits(config: Any, capacity: int) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert position_capacity(model) == capacity
    ids = torch.randint(4, 30, (2, 12))
    with torch.no_grad():
        before = model(input_ids=ids).logits
        cut_positions(model, 12)
        assert_same(model(input_ids=ids).logits, before)
        assert position_capacity(model) == 12
        cut_positions(model, 30)  # longer than there is: nothing to do
        assert position_capacity(model) == 12
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.randint(4, 30, (2, 13)))


def test_impossible_cuts_are_refused() -> None:
    model = AutoModelForSequenceClassification.from_config(_CONFIGS[0][0])
    with pytest.raises(RecipeError):
        cut_positions(model, 0)
    model.config.position_embedding_type = "relative_key"
    with pytest.raises(ModelError, match="relative"):
        cut_positions(model, 8)
