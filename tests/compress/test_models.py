from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from pocketformer.compress.models import (
    check_model_directory,
    has_classification_head,
    label_names_of,
    load_classifier,
    save_classifier,
    structure_of,
)
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.runtime.errors import ModelError, NoSpaceError


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for the last bits, which may depend on where the operands lie in memory."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


LABELS = ("animal", "place", "person")


@pytest.fixture
def model_dir(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def _logits(model: Any) -> torch.Tensor:
    ids = torch.arange(4, 34).view(3, 10) % 60
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


def _edit(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **values}))


def test_a_plain_directory_loads_as_transformers_loads_it(model_dir: Path) -> None:
    model = load_classifier(model_dir)
    assert not model.training
    expected = AutoModelForSequenceClassification.from_pretrained(model_dir).eval()
    assert_same(_logits(model), _logits(expected))
    assert has_classification_head(model_dir)
    assert has_classification_head(model_dir, 3)
    assert not has_classification_head(model_dir, 4)
    assert label_names_of(model_dir) == LABELS


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_uniform_widths_reload_here_and_in_plain_transformers(
    model_dir: Path, tmp_path: Path, attention: str
) -> None:
    model = load_classifier(model_dir)
    keep_parts(model, [[0, 3], [1, 2], [0, 1]], [range(0, 64, 2)] * 3)
    out = save_classifier(model, model_dir, tmp_path / "pruned")
    again = load_classifier(out)
    assert_same(_logits(again), _logits(model))
    assert structure_of(again) == structure_of(model)
    plain, info = AutoModelForSequenceClassification.from_pretrained(
        out, output_loading_info=True, attn_implementation=attention
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert_same(_logits(plain.eval()), _logits(model))
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (model_dir / name).read_bytes()
    # The files shrink with the shapes.
    assert (out / "model.safetensors").stat().st_size < (model_dir / "model.safetensors").stat().st_size


def test_widths_that_differ_reload_here_and_fail_loudly_elsewhere(model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(model_dir)
    keep_parts(model, [[0], [0, 1, 2, 3], [1, 2, 3]], [range(8), range(64), range(3, 40)])
    out = save_classifier(model, model_dir, tmp_path / "pruned")
    again = load_classifier(out)
    assert_same(_logits(again), _logits(model))
    assert [(layer.heads, layer.ffn) for layer in structure_of(again).layers] == [(1, 8), (4, 64), (3, 37)]
    with pytest.raises(RuntimeError, match="size mismatch"):
        AutoModelForSequenceClassification.from_pretrained(out)
    # A second round through the disk and another cut keeps the first numbers of the heads.
    keep_parts(again, [[0], [2, 3], [0, 2]], [range(8)] * 3)
    third = load_classifier(save_classifier(again, out, tmp_path / "third"))
    assert [layer.kept_heads for layer in structure_of(third).layers] == [(0,), (2, 3), (1, 3)]
    assert_same(_logits(third), _logits(again))


def test_saving_by_transformers_keeps_the_shapes(model_dir: Path, tmp_path: Path) -> None:
    """A trainer's own checkpoints must load too."""
    model = load_classifier(model_dir)
    keep_parts(model, [[0], [1], [0, 2]], [range(8), range(16), range(8)])
    model.save_pretrained(tmp_path / "m")
    shutil.copy(model_dir / "tokenizer.json", tmp_path / "m")
    assert_same(_logits(load_classifier(tmp_path / "m")), _logits(model))


def test_heads_pruned_by_transformers_alone_load(model_dir: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(model_dir).eval()
    if not hasattr(model, "prune_heads"):
        pytest.skip("Transformers 5 has no prune_heads")
    model.prune_heads({0: [1], 2: [0, 3]})
    model.save_pretrained(tmp_path / "m")
    shutil.copy(model_dir / "tokenizer.json", tmp_path / "m")
    again = load_classifier(tmp_path / "m")
    assert_same(_logits(again), _logits(model))
    assert [layer.kept_heads for layer in structure_of(again).layers] == [(0, 2, 3), (0, 1, 2, 3), (1, 2)]


def test_a_wrong_record_is_refused(model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(model_dir)
    keep_parts(model, [[0], [1], [0, 2]], [range(8)] * 3)
    out = save_classifier(model, model_dir, tmp_path / "m")
    good = json.loads((out / "config.json").read_text())["pocketformer"]
    row = good["layers"][0]
    for layers, message in (
        ([{**row, "heads": [0, 1]}, *good["layers"][1:]], "differ at"),
        (good["layers"][:2], "cannot be read"),
        ([{**row, "heads": [9]}, *good["layers"][1:]], "is wrong"),
        ([{**row, "ffn": 800}, *good["layers"][1:]], "width of 800"),
        ([{"heads": [0]}, *good["layers"][1:]], "cannot be read"),
    ):
        _edit(out / "config.json", pocketformer={"layers": layers})
        with pytest.raises(ModelError, match=message):
            load_classifier(out)


def test_new_labels_give_a_new_head_that_the_seed_decides(model_dir: Path) -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, same, other = (load_classifier(model_dir, label_names=("yes", "no"), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.config.id2label == {0: "yes", 1: "no"}
    assert _logits(first).shape == (3, 2)
    assert_same(_logits(first), _logits(same))
    assert not torch.equal(_logits(first), _logits(other))
    loss = first(input_ids=torch.ones(2, 4, dtype=torch.long), labels=torch.tensor([0, 1])).loss
    assert torch.isfinite(loss)


def test_the_same_labels_keep_the_head(model_dir: Path) -> None:
    kept = load_classifier(model_dir, label_names=LABELS)
    assert_same(_logits(kept), _logits(load_classifier(model_dir)))
    with pytest.raises(ModelError, match="another order"):
        load_classifier(model_dir, label_names=("place", "animal", "person"))
    with pytest.raises(ModelError, match="not usable"):
        load_classifier(model_dir, label_names=("one",))


def test_unnamed_labels_are_kept_for_numbers_only(model_dir: Path) -> None:
    names = {str(i): f"LABEL_{i}" for i in range(3)}
    _edit(model_dir / "config.json", id2label=names, label2id={v: int(k) for k, v in names.items()})
    before = _logits(load_classifier(model_dir))
    assert_same(_logits(load_classifier(model_dir, label_names=("0", "1", "2"))), before)
    assert not torch.equal(_logits(load_classifier(model_dir, label_names=LABELS)), before)


@pytest.mark.parametrize("pruned", [False, True])
def test_an_encoder_without_head_needs_label_names(model_dir: Path, tmp_path: Path, pruned: bool) -> None:
    model = load_classifier(model_dir)
    if pruned:
        keep_parts(model, [[0], [1], [0, 2]], [range(8)] * 3)
    encoder = model.bert
    out = tmp_path / "encoder"
    if pruned:
        model.config.architectures = ["BertModel"]
        save_classifier(model, model_dir, out)
        tensors = load_file(out / "model.safetensors")
        body = {name: t for name, t in tensors.items() if name.startswith("bert.")}
        save_file(body, out / "model.safetensors", metadata={"format": "pt"})
    else:
        encoder.save_pretrained(out)
        shutil.copy(model_dir / "tokenizer.json", out)
        AutoModel.from_pretrained(out)
    assert not has_classification_head(out)
    assert label_names_of(out) is None
    with pytest.raises(ModelError, match="no head") as caught:
        load_classifier(out)
    assert "finetune" in str(caught.value.hint)
    started = load_classifier(out, label_names=("a", "b"))
    query = started.bert.encoder.layer[1].attention.self.query.weight
    assert torch.equal(query, encoder.encoder.layer[1].attention.self.query.weight)


def test_a_head_for_another_task_does_not_count(model_dir: Path) -> None:
    _edit(model_dir / "config.json", architectures=["BertForTokenClassification"])
    assert not has_classification_head(model_dir)


def _remove(name: str) -> Any:
    return lambda d: (d / name).unlink()


def _remove_tokenizer(d: Path) -> None:
    (d / "tokenizer.json").unlink()
    (d / "vocab.txt").unlink()


def _truncate(d: Path) -> None:
    file = d / "model.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def _poison(value: float) -> Any:
    def damage(d: Path) -> None:
        tensors = load_file(d / "model.safetensors")
        tensors["bert.encoder.layer.1.output.dense.weight"][3, 4] = value
        save_file(tensors, d / "model.safetensors", metadata={"format": "pt"})

    return damage


def _drop_tensor(d: Path) -> None:
    tensors = load_file(d / "model.safetensors")
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    save_file(tensors, d / "model.safetensors", metadata={"format": "pt"})


class _Harmful:
    def __reduce__(self) -> Any:
        return (os.system, ("exit 1",))


def _harmful_pickle(d: Path) -> None:
    (d / "model.safetensors").unlink()
    torch.save({"w": _Harmful()}, d / "pytorch_model.bin")


def _old_pickle(d: Path) -> None:
    (d / "model.safetensors").unlink()
    (d / "pytorch_model.bin").write_bytes(pickle.dumps(_Harmful()))


def _garbage(d: Path) -> None:
    (d / "model.safetensors").unlink()
    (d / "pytorch_model.bin").write_bytes(b"not a checkpoint at all")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove("config.json"), "no config.json"),
        (_remove_tokenizer, "no tokenizer"),
        (_remove("model.safetensors"), "no weights"),
        (_truncate, "truncated or damaged"),
        (_poison(float("nan")), r"encoder\.layer\.1\.output\.dense\.weight.*not finite"),
        (_poison(float("inf")), "not finite"),
        (_drop_tensor, r"lack 'bert\.encoder\.layer\.1\.output\.dense\.weight'"),
        (_harmful_pickle, "would run code"),
        (_old_pickle, "would run code|damaged"),
        (_garbage, "damaged"),
        (lambda d: (d / "config.json").write_text("{"), "not valid JSON"),
        (lambda d: (d / "config.json").write_text("{}"), "model_type"),
        (lambda d: _edit(d / "config.json", model_type="nonesuch"), "cannot be used"),
        (lambda d: _edit(d / "config.json", hidden_size=16), "cannot be loaded"),
        (lambda d: _edit(d / "config.json", model_type="vit"), "cannot be loaded"),
    ],
)
def test_damage_is_named(model_dir: Path, damage: Any, message: str) -> None:
    damage(model_dir)
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier(model_dir)
    assert caught.value.hint


def test_what_is_no_directory_is_named(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"x")
    with pytest.raises(ModelError, match="is an ONNX file"):
        check_model_directory(graph)
    with pytest.raises(ModelError, match=r"holds model\.onnx"):
        check_model_directory(tmp_path)
    with pytest.raises(ModelError, match="there is no model directory"):
        check_model_directory(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match="is a file"):
        check_model_directory(tmp_path / "notes.txt")


def test_a_harmless_pickle_and_shards_load(model_dir: Path, tmp_path: Path) -> None:
    expected = load_classifier(model_dir)
    sharded = tmp_path / "sharded"
    expected.save_pretrained(sharded, max_shard_size="20KB")
    shutil.copy(model_dir / "tokenizer.json", sharded)
    assert_same(_logits(load_classifier(sharded)), _logits(expected))
    next(sharded.glob("model-00002*")).unlink()
    with pytest.raises(ModelError, match="weights are missing"):
        load_classifier(sharded)
    torch.save(load_file(model_dir / "model.safetensors"), model_dir / "pytorch_model.bin")
    (model_dir / "model.safetensors").unlink()
    assert has_classification_head(model_dir, 3)
    assert_same(_logits(load_classifier(model_dir)), _logits(expected))


def test_half_precision_becomes_float32(model_dir: Path, tmp_path: Path) -> None:
    model = load_classifier(model_dir).half()
    out = save_classifier(model, model_dir, tmp_path / "half")
    assert {p.dtype for p in load_classifier(out).parameters()} == {torch.float32}


def test_saving_copies_the_licence_and_makes_a_tokenizer_json(model_dir: Path, tmp_path: Path) -> None:
    (model_dir / "LICENSE.txt").write_text("terms")
    (model_dir / "tokenizer.json").unlink()
    model = load_classifier(model_dir)
    out = save_classifier(model, model_dir, tmp_path / "out")
    assert (out / "LICENSE.txt").read_text() == "terms"
    assert (out / "tokenizer.json").is_file()
    assert AutoTokenizer.from_pretrained(out)("what is a cat ?")["input_ids"]
    save_classifier(model, out, out)  # into itself
    with pytest.raises(ModelError, match="no tokenizer"):
        save_classifier(model, tmp_path, tmp_path / "other")


def test_a_full_disk_is_named(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    model = load_classifier(model_dir)
    monkeypatch.setattr(type(model), "save_pretrained", full)
    with pytest.raises(NoSpaceError):
        save_classifier(model, model_dir, tmp_path / "out")
