"""A narrower hidden state: the shapes, what is kept, and that the rest of the chain takes such a model."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

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

from pocketformer.compress.augmentation import AugmentationConfig
from pocketformer.compress.context import StepContext
from pocketformer.compress.data import Dataset
from pocketformer.compress.distill import DistillConfig, distill
from pocketformer.compress.models import (
    DIRECTIONS_FILE,
    hidden_directions,
    load_classifier,
    save_classifier,
    structure_of,
)
from pocketformer.compress.prune.config import PruneConfig
from pocketformer.compress.prune.hidden import hidden_width, narrow_hidden
from pocketformer.compress.prune.step import prune
from pocketformer.compress.training import TrainingConfig
from pocketformer.export.onnx_export import export_onnx
from pocketformer.export.parity import check_parity
from pocketformer.runtime.errors import DataError, ModelError, RecipeError

_SHAPE: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_labels": 3,
}
_CONFIGS: dict[str, Any] = {
    "bert": BertConfig(**_SHAPE),
    "roberta": RobertaConfig(**_SHAPE),
    "electra": ElectraConfig(embedding_size=32, **_SHAPE),
    "distilbert": DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=64, num_labels=3),
}


def _model(name: str) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_config(copy.deepcopy(_CONFIGS[name]))
    # Trained norms do not scale all coordinates alike.
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
    return model.eval()


def _batches(count: int = 6) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(count):
        ids = torch.randint(5, 60, (8, 9), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, 5:] = 0
        batches.append({"input_ids": ids, "attention_mask": mask})
    return batches


def _three_heads(model: Any) -> Any:
    from pocketformer.compress.prune.removal import keep_parts

    keep_parts(model, [[0, 1, 3], [1, 2, 3]], [range(64), range(64)])
    return model


@pytest.mark.parametrize("name", _CONFIGS)
def test_every_family_becomes_narrower_and_loads_again(
    name: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    model = _three_heads(_model(name))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = narrow_hidden(model, 24, _batches())
    narrow = result.output.model
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert result.metrics["hidden_after"] == hidden_width(narrow) == structure_of(narrow).hidden == 24
    assert 0.75 < result.metrics["variance_kept"] < 1
    batch = _batches(1)[0]
    with torch.no_grad():
        expected = narrow(**batch).logits
    save_classifier(narrow, tiny_model_dir, tmp_path / "narrow")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "narrow").eval()
    for loaded in (load_classifier(tmp_path / "narrow"), plain):
        with torch.no_grad():
            torch.testing.assert_close(loaded(**batch).logits, expected, rtol=0, atol=1e-6)


def test_the_directions_that_carry_most_keep_more_of_the_hidden_states_than_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of what the last layer says, read back into the old coordinates."""
    model = _three_heads(_model("bert"))
    batch = _batches(1)[0]

    def lost() -> float:
        result = narrow_hidden(model, 24, _batches()).output.model
        with torch.no_grad():
            wanted = model.bert(**batch).last_hidden_state.reshape(-1, 32)
            found = result.bert(**batch).last_hidden_state.reshape(-1, 24)
        back = torch.linalg.lstsq(found, wanted).solution
        return float((found @ back - wanted).square().mean() / wanted.var())

    principal = lost()
    monkeypatch.setattr(
        "pocketformer.compress.prune.hidden.principal_subspace",
        lambda moment, width: (torch.eye(32)[:, -width:].double().numpy(), 0.0),
    )
    assert principal < 0.8 * lost()


@pytest.mark.parametrize(
    ("width", "words"), [(20, "multiple of the head size 8"), (16, "from 24"), (40, "to 32")]
)
def test_a_width_that_does_not_fit_is_refused(width: int, words: str) -> None:
    with pytest.raises(RecipeError) as refused:
        narrow_hidden(_three_heads(_model("bert")), width, _batches())
    assert words in str(refused.value.hint)


def test_what_cannot_be_narrowed_is_told() -> None:
    with pytest.raises(DataError, match="no examples"):
        narrow_hidden(_three_heads(_model("bert")), 24, [])
    own = ElectraConfig(embedding_size=16, **_SHAPE)
    model = _three_heads(AutoModelForSequenceClassification.from_config(own))
    with pytest.raises(ModelError, match="width of their own"):
        narrow_hidden(model, 24, _batches())


@pytest.fixture
def context(
    tiny_texts: list[str], tiny_labels: list[int], tiny_model_dir: Path, tmp_path: Path
) -> StepContext:
    splits: Any = SimpleNamespace(
        train=Dataset(texts=tuple(tiny_texts[:50]), labels=tuple(tiny_labels[:50])),
        validation=Dataset(texts=tuple(tiny_texts[50:]), labels=tuple(tiny_labels[50:])),
        label_names=("animal", "place", "person"),
        unlabeled=(),
    )
    return StepContext(
        splits=cast(Any, splits),
        output=tmp_path / "out",
        work=tmp_path / "work",
        max_length=16,
        teacher=tiny_model_dir,
    )


def test_the_step_narrows_and_a_narrow_student_learns(
    tiny_model_dir: Path, context: StepContext, tmp_path: Path
) -> None:
    narrow = prune(tiny_model_dir, PruneConfig(heads=3, ffn=32, hidden=0.55), context)
    structure = structure_of(load_classifier(narrow.output))
    # 17.6 of 32 is rounded down to whole heads of 8, and no layer may keep more heads than that.
    assert (structure.hidden, [layer.heads for layer in structure.layers]) == (16, [2, 2, 2])
    assert any("hidden width 32 to 16" in note for note in narrow.notes)

    training = TrainingConfig(epochs=1, batch_size=8)
    config = DistillConfig(augmentation=AugmentationConfig(copies=1), training=training)
    learned = distill(narrow.output, config, replace(context, output=tmp_path / "learned")).output
    assert hidden_width(load_classifier(learned)) == 16


def test_directions_of_two_cuts_are_one_map(
    tiny_model_dir: Path, context: StepContext, tmp_path: Path
) -> None:
    first = prune(tiny_model_dir, PruneConfig(heads=2, hidden=24), context).output
    second = prune(first, PruneConfig(hidden=16), replace(context, output=tmp_path / "second")).output
    one, both = hidden_directions(first), hidden_directions(second)
    assert hidden_directions(tiny_model_dir) is None
    assert one is not None
    assert both is not None
    assert (one.shape, both.shape) == ((32, 24), (32, 16))
    np.testing.assert_allclose(both.T @ both, np.eye(16), atol=1e-5)
    # The second cut keeps part of what the first kept.
    np.testing.assert_allclose(one @ (one.T @ both), both, atol=1e-5)


def test_a_student_of_unknown_directions_is_refused(tiny_model_dir: Path, context: StepContext) -> None:
    narrow = prune(tiny_model_dir, PruneConfig(heads=2, hidden=16), context).output
    (narrow / DIRECTIONS_FILE).unlink()
    with pytest.raises(ModelError, match="width 16 cannot be matched with width 32"):
        distill(narrow, DistillConfig(), replace(context, output=context.output.with_name("student")))
    (narrow / DIRECTIONS_FILE).write_bytes(b"no array")
    with pytest.raises(ModelError, match="cannot be read"):
        hidden_directions(narrow)


def test_a_narrow_model_is_exported_with_the_same_answers(
    tiny_model_dir: Path, context: StepContext, tmp_path: Path
) -> None:
    narrow = prune(tiny_model_dir, PruneConfig(heads=2, hidden=24), context).output
    model = load_classifier(narrow)
    graph = export_onnx(model, narrow, tmp_path / "model.onnx").output
    check_parity(
        load_classifier(narrow), graph, vocab_size=int(model.config.vocab_size), tolerance=1e-4, seed=0
    )
