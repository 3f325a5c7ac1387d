from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
)

from pocketformer.compress.families import encoder_layers, family_of, linear_part
from pocketformer.compress.models import structure_of
from pocketformer.compress.prune.config import PruneConfig
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.compress.prune.structure import mask_gradients, prune_structure
from pocketformer.runtime.errors import DataError, RecipeError

_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_labels": 3,
}
_CONFIGS: dict[str, Any] = {
    "bert": BertConfig(vocab_size=60, **_SHAPE),
    "roberta": RobertaConfig(vocab_size=60, **_SHAPE),
    "electra": ElectraConfig(vocab_size=60, embedding_size=16, **_SHAPE),
    "distilbert": DistilBertConfig(vocab_size=60, dim=32, n_layers=3, n_heads=4, hidden_dim=64, num_labels=3),
}


def _model(name: str = "bert", attention: str | None = None) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = copy.deepcopy(_CONFIGS[name])
    kwargs = {} if attention is None else {"attn_implementation": attention}
    return AutoModelForSequenceClassification.from_config(config, **kwargs).eval()


def _batches(count: int = 3, size: int = 4, labels: bool = True) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(count):
        ids = torch.randint(5, 60, (size, 7), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, 4:] = 0
        batch = {"input_ids": ids, "attention_mask": mask}
        if labels:
            batch["labels"] = torch.randint(0, 3, (size,), generator=generator)
        batches.append(batch)
    return batches


def _zeroed(model: Any, layer: int, heads: list[int], neurons: list[int]) -> Any:
    """The same model with the outputs of the named heads and neurons set to nothing: what removal must equal."""
    masked = copy.deepcopy(model)
    family = family_of(masked)
    part = encoder_layers(masked, family)[layer]
    with torch.no_grad():
        for head in heads:
            linear_part(part, family, "attention_output").weight[:, head * 8 : (head + 1) * 8] = 0
        linear_part(part, family, "ffn_out").weight[:, neurons] = 0
    return masked


# Transformers has no sdpa attention for ELECTRA.
_WITH_ATTENTION = [(n, a) for n in _CONFIGS for a in ("eager", "sdpa") if (n, a) != ("electra", "sdpa")]


@pytest.mark.parametrize(("name", "attention"), _WITH_ATTENTION)
def test_removing_equals_masking(name: str, attention: str) -> None:
    model = _model(name, attention)
    gone_heads, gone_neurons = [1, 2], [0, 5, 63]
    expected = _zeroed(model, 1, gone_heads, gone_neurons)
    pruned = copy.deepcopy(model)
    keep_parts(
        pruned,
        [range(4), [0, 3], range(4)],
        [range(64), [n for n in range(64) if n not in gone_neurons], range(64)],
    )
    batch = _batches(1, labels=False)[0]
    with torch.no_grad():
        torch.testing.assert_close(pruned(**batch).logits, expected(**batch).logits, rtol=1e-5, atol=1e-6)
    layer = structure_of(pruned).layers[1]
    assert (layer.heads, layer.ffn, layer.kept_heads) == (2, 61, (0, 3))
    assert pruned.config.pruned_heads == {1: [1, 2]}
    # Removing again counts from what is there now, and remembers the first numbers.
    keep_parts(pruned, [range(4), [1], range(4)], [range(64), range(61), range(64)])
    assert structure_of(pruned).layers[1].kept_heads == (3,)


@pytest.mark.parametrize(
    ("heads", "neurons"),
    [([[0]] * 2, [[0]] * 3), ([[]] * 3, [[0]] * 3), ([[4]] * 3, [[0]] * 3), ([[0]] * 3, [[-1]] * 3)],
)
def test_impossible_parts_are_refused(heads: Any, neurons: Any) -> None:
    with pytest.raises(ValueError, match=r"layers|must stay|asked for"):
        keep_parts(_model(), heads, neurons)


@pytest.mark.parametrize("name", _CONFIGS)
def test_gradients_equal_finite_differences_of_single_examples(name: str) -> None:
    model = _model(name).double()
    batch = _batches(1)[0]
    gradients = mask_gradients(model, [batch], 10)
    family = family_of(model)
    step = 1e-4
    for kind, part, position, columns in (
        ("heads", "attention_output", 2, slice(16, 24)),
        ("neurons", "ffn_out", 5, slice(5, 6)),
    ):
        losses = []
        for sign in (1, -1):
            changed = copy.deepcopy(model)
            with torch.no_grad():
                linear_part(encoder_layers(changed, family)[1], family, part).weight[:, columns] *= (
                    1 + sign * step
                )
                inputs = {k: v for k, v in batch.items() if k != "labels"}
                losses.append(
                    functional.cross_entropy(changed(**inputs).logits, batch["labels"], reduction="none")
                )
        expected = ((losses[0] - losses[1]) / (2 * step)).numpy()
        np.testing.assert_allclose(getattr(gradients, kind)[1][:, position], expected, rtol=1e-3, atol=1e-7)


def test_batching_changes_nothing_and_samples_are_counted() -> None:
    model = _model()
    batches = _batches(2)
    together = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    one, two = mask_gradients(model, batches, 100), mask_gradients(model, [together], 100)
    np.testing.assert_allclose(one.neurons[0], two.neurons[0], rtol=1e-4, atol=1e-6)
    assert mask_gradients(model, batches, 5).heads[0].shape == (5, 4)


def test_without_labels_the_predictions_take_their_place() -> None:
    model = _model()
    (batch,) = _batches(1, labels=False)
    with torch.no_grad():
        answers = model(**batch).logits.argmax(-1)
    silent, told = (mask_gradients(model, [b], 9).heads[2] for b in (batch, {**batch, "labels": answers}))
    np.testing.assert_array_equal(silent, told)


def test_the_model_is_left_as_it_was() -> None:
    model = _model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = prune_structure(model, PruneConfig(heads=2, ffn=16), _batches())
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert structure_of(model).layers[0].heads == 4
    assert result.metrics["parameters_after"] < result.metrics["parameters_before"]


def test_uniform_keeps_the_most_salient_of_each_layer() -> None:
    model = _model()
    gradients = mask_gradients(model, _batches(), 99)
    pruned = prune_structure(model, PruneConfig(heads=0.5, ffn=0.3), _batches()).output
    structure = structure_of(pruned)
    assert structure.uniform
    assert structure.layers[0].ffn == 16  # 0.3 of 64 is 19, a multiple of 8 below it
    for index, layer in enumerate(structure.layers):
        scores = (gradients.heads[index] ** 2).mean(0)
        assert set(layer.kept_heads) == set(np.argsort(-scores)[:2].tolist())


def test_global_spends_no_more_than_uniform_and_protects() -> None:
    model = _model()
    uniform = prune_structure(model, PruneConfig(heads=2, ffn=32), _batches())
    free = prune_structure(model, PruneConfig(heads=2, ffn=32, allocation="global"), _batches())
    assert free.metrics["parameters_after"] <= uniform.metrics["parameters_after"]
    assert all(layer.heads >= 1 and layer.ffn % 8 == 0 for layer in structure_of(free.output).layers)
    kept = prune_structure(model, PruneConfig(heads=1, ffn=8, protected_layers=(2,)), _batches()).output
    assert [(layer.heads, layer.ffn) for layer in structure_of(kept).layers] == [(1, 8), (1, 8), (4, 64)]
    with pytest.raises(RecipeError, match="protected layer 7"):
        prune_structure(model, PruneConfig(protected_layers=(7,)), _batches())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PruneConfig(heads=5), "heads is 5, but no layer has more than 4"),
        (PruneConfig(ffn=65), "more than 64"),
    ],
)
def test_more_than_there_is_cannot_be_kept(config: PruneConfig, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        prune_structure(_model(), config, _batches())


def test_removing_nothing_costs_nothing() -> None:
    result = prune_structure(_model(), PruneConfig(), _batches())
    assert result.metrics["estimated_loss_rise"] == 0
    assert not hasattr(result.output.config, "pocketformer")


def test_no_examples_is_an_error() -> None:
    with pytest.raises(DataError, match="no examples"):
        prune_structure(_model(), PruneConfig(), [])


@pytest.mark.parametrize(
    "values",
    [
        {"heads": 0},
        {"ffn": 1.5},
        {"ffn": 0.0},
        {"heads": True},
        {"allocation": "best"},
        {"samples": 0},
        {"layers": -1},
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        PruneConfig(**values)
