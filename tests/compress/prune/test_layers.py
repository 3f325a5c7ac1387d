from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pocketformer.compress.families import encoder_layers, family_of
from pocketformer.compress.models import load_classifier, save_classifier, structure_of
from pocketformer.compress.prune.layers import chosen_layers, default_layers, select_layers
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.runtime.errors import RecipeError


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for the last bits, which may depend on where the operands lie in memory."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("total", "keep", "expected"),
    [
        (6, 3, (1, 3, 5)),
        (6, 2, (2, 5)),
        (6, 4, (0, 2, 3, 5)),
        (12, 6, (1, 3, 5, 7, 9, 11)),
        (3, 3, (0, 1, 2)),
        (6, 1, (5,)),
    ],
)
def test_default_layers_are_spread(total: int, keep: int, expected: tuple[int, ...]) -> None:
    assert default_layers(total, keep) == expected


@pytest.mark.parametrize("keep", [0, 7])
def test_more_layers_than_there_are_is_an_error(keep: int) -> None:
    with pytest.raises(RecipeError, match="of 6 layers"):
        default_layers(6, keep)


def test_selected_layers_are_copies_in_the_given_order(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(tiny_model_dir)
    keep_parts(model, [[0, 1, 2, 3], [1, 3], [0]], [range(64), range(32), range(16)])
    smaller = select_layers(model, (2, 1))
    assert [layer.kept_heads for layer in structure_of(smaller).layers] == [(0,), (1, 3)]
    assert len(encoder_layers(model, family_of(model))) == 3
    assert structure_of(model).layers[1].kept_heads == (1, 3)
    old, new = model.bert.encoder.layer[2], smaller.bert.encoder.layer[0]
    assert torch.equal(old.attention.self.query.weight, new.attention.self.query.weight)
    with torch.no_grad():
        new.attention.self.query.weight.zero_()
        assert old.attention.self.query.weight.abs().sum() > 0
    again = load_classifier(save_classifier(smaller, tiny_model_dir, tmp_path / "m"))
    ids = torch.arange(5, 15).view(2, 5)
    with torch.no_grad():
        assert_same(again(input_ids=ids).logits, smaller(input_ids=ids).logits)


@pytest.mark.parametrize("layers", [(), (0, 0), (3,), (-1,)])
def test_impossible_layers_are_refused(tiny_model_dir: Path, layers: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError):
        select_layers(load_classifier(tiny_model_dir), layers)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(3, (1, 3, 5)), (0.5, (1, 3, 5)), (0.01, (5,)), (1.0, tuple(range(6))), ((5, 1), (5, 1))],
)
def test_layers_are_chosen_by_number_share_or_name(wanted: Any, expected: tuple[int, ...]) -> None:
    assert chosen_layers(wanted, 6) == expected
