"""Pruning with compensation on small models of every family."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
)

from pocketformer.compress.families import encoder_layers, family_of, linear_part
from pocketformer.compress.prune.choosing import choose_counts, choose_within, sizes
from pocketformer.compress.prune.config import PruneConfig
from pocketformer.compress.prune.costs import multiply_accumulates
from pocketformer.compress.prune.moments import collect_moments
from pocketformer.compress.prune.obs import cut_and_compensate, obs_paths
from pocketformer.compress.prune.reconstruction import block_sums, reconstruct
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.runtime.errors import DataError

_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": 3,
    # The usual 0.02 makes attention uniform and every neuron nearly linear: nothing to tell apart.
    "initializer_range": 0.3,
}
_CONFIGS: dict[str, Any] = {
    "bert": BertConfig(vocab_size=60, **_SHAPE),
    "roberta": RobertaConfig(vocab_size=60, **_SHAPE),
    "electra": ElectraConfig(vocab_size=60, embedding_size=16, **_SHAPE),
    "distilbert": DistilBertConfig(
        vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=48, num_labels=3, initializer_range=0.3
    ),
}
_COSTS = multiply_accumulates(hidden=32, head_size=8, heads=4, width=48, tokens=16)


def _model(name: str = "bert") -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(copy.deepcopy(_CONFIGS[name])).eval()


def _batches(count: int = 12, size: int = 8) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(count):
        ids = torch.randint(5, 60, (size, 9), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, 6:] = 0
        batches.append({"input_ids": ids, "attention_mask": mask})
    return batches


def _logits(model: Any, batches: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model(**batch).logits for batch in batches])


def _error(model: Any, other: Any, batches: list[dict[str, torch.Tensor]]) -> float:
    return float((_logits(model, batches) - _logits(other, batches)).square().sum(dim=-1).mean())


@pytest.mark.parametrize("name", _CONFIGS)
def test_compensation_and_reconstruction_each_bring_the_logits_nearer(name: str) -> None:
    model, batches = _model(name), _batches()
    moments = collect_moments(model, batches)
    choices = choose_counts(obs_paths(model, moments), [2, 2], [16, 16])
    bare = copy.deepcopy(model)
    keep_parts(bare, [c.heads for c in choices], [c.neurons for c in choices])
    compensated = cut_and_compensate(model, moments, choices)
    rebuilt = copy.deepcopy(compensated)
    reconstruct(rebuilt, block_sums(model, batches), batches, ridge=0.01)
    assert sizes(rebuilt) == ([2, 2], [16, 16])
    errors = [_error(model, other, batches) for other in (bare, compensated, rebuilt)]
    assert errors[1] < 0.8 * errors[0]
    assert errors[2] < errors[1]


def test_a_model_that_keeps_everything_stays_as_it_is() -> None:
    model, batches = _model(), _batches()
    moments = collect_moments(model, batches)
    same = cut_and_compensate(model, moments, choose_counts(obs_paths(model, moments), [4, 4], [48, 48]))
    assert torch.equal(_logits(same, batches), _logits(model, batches))
    reconstruct(same, block_sums(model, batches), batches, ridge=0.01)
    assert _error(model, same, batches) < 1e-8


def test_the_model_is_left_as_it_was() -> None:
    model, batches = _model(), _batches(2)
    before = copy.deepcopy(model.state_dict())
    model.train()
    model.classifier.weight.requires_grad_(False)
    collect_moments(model, batches)
    block_sums(model, batches)
    assert model.training
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["classifier.weight"]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_neuron_that_another_one_copies_goes_early_and_is_not_missed() -> None:
    model, batches = _model(), _batches()
    family = family_of(model)
    layer = encoder_layers(model, family)[0]
    with torch.no_grad():
        part = linear_part(layer, family, "ffn_in")
        part.weight[7] = part.weight[3]
        part.bias[7] = part.bias[3]
    moments = collect_moments(model, batches)
    paths = obs_paths(model, moments)
    first, second = sorted(paths[0].neurons.order.index(neuron) for neuron in (3, 7))
    assert first < 8 < second
    gone = paths[0].neurons.order[first]
    choices = choose_counts(paths, [4, 4], [48, 48])
    choices[0] = replace(choices[0], neurons=tuple(n for n in range(48) if n != gone))
    smaller = cut_and_compensate(model, moments, choices)
    # The damping of the covariance leaves a little of it undone.
    assert _error(model, smaller, batches) < 1e-4
    bare = copy.deepcopy(model)
    keep_parts(bare, [c.heads for c in choices], [c.neurons for c in choices])
    assert _error(model, bare, batches) > 1e-2


def test_moments_of_the_last_layer_are_of_the_first_position() -> None:
    model, batches = _model(), _batches(1)
    changed = [{name: tensor.clone() for name, tensor in batch.items()} for batch in batches]
    seen: list[torch.Tensor] = []
    part = linear_part(encoder_layers(model, family_of(model))[-1], family_of(model), "ffn_out")
    part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 0]))
    found = collect_moments(model, changed)[-1][1]
    first = seen[0].detach().double().numpy()
    # A weighted mean of the first positions: nothing outside their range, and their span alone.
    assert np.all(found.mean >= first.min(axis=0) - 1e-6)
    assert np.all(found.mean <= first.max(axis=0) + 1e-6)
    assert np.linalg.matrix_rank(found.covariance, tol=1e-4) <= len(first) - 1


def test_the_metric_predicts_how_logits_move() -> None:
    model, batches = _model(), _batches(1, 4)
    moments = collect_moments(model, batches * 200)[-1][1]
    part = linear_part(encoder_layers(model, family_of(model))[-1], family_of(model), "ffn_out")
    rng = np.random.default_rng(0)
    for _ in range(3):
        change = rng.normal(size=32) * 1e-3
        moved = copy.deepcopy(model)
        other = linear_part(encoder_layers(moved, family_of(moved))[-1], family_of(moved), "ffn_out")
        with torch.no_grad():
            other.bias += torch.from_numpy(change).float()
        predicted = float(np.square(moments.metric_root @ change).sum())
        assert predicted == pytest.approx(_error(model, moved, batches), rel=0.3)
    assert part.weight.shape == (32, 48)


def test_a_budget_is_kept_and_more_of_it_never_errs_more() -> None:
    model, batches = _model(), _batches()
    paths = obs_paths(model, collect_moments(model, batches))
    whole = _COSTS.total(*sizes(model))
    errors = []
    for share in (0.3, 0.5, 0.8, 1.0):
        choices = choose_within(paths, _COSTS, share * whole * 1.0001, PruneConfig())
        assert choices is not None
        heads = [len(c.heads) for c in choices]
        widths = [len(c.neurons) for c in choices]
        assert _COSTS.total(heads, widths) <= share * whole * 1.0001
        assert all(width % 8 == 0 for width in widths)
        errors.append(
            sum(p.heads.error(h) + p.neurons.error(w) for p, h, w in zip(paths, heads, widths, strict=True))
        )
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0
    assert choose_within(paths, _COSTS, 1e-6, PruneConfig()) is None


def test_no_texts_are_refused() -> None:
    with pytest.raises(DataError, match="no texts"):
        collect_moments(_model(), [])
