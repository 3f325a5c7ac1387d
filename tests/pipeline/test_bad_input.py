"""Wrong input gets a message of what, where and what to do, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketformer.cli import run_command

Change = Callable[[Path], None]
Check = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs a verb that must be refused; its message. Nothing may be written, and nothing read may change."""

    def check(*arguments: object, exit_code: int = 2) -> str:
        out = tmp_path / "deep" / "out"
        before = _contents(tmp_path)
        code = run_command([*map(str, arguments), "--threads", "1", "-o", str(out)])
        shown = capsys.readouterr()
        assert code == exit_code, shown.err
        assert shown.out == ""
        assert "Traceback" not in shown.err
        message = shown.err.split("Error: ", 1)[1]
        assert len(message) < 600, "an error is short"
        assert "\n  " in message, "a hint says what to do"
        assert not (tmp_path / "deep").exists(), "nothing is left behind"
        assert _contents(tmp_path) == before
        return message

    return check


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


GOOD = b"text,label\n" + b"".join(
    f"{word} {i},{word}\n".encode() for i in range(8) for word in ("animal", "place", "person")
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["train.csv", "no such file"]),
        (b"", ["train.csv", "empty"]),
        (b" \n", ["white space only"]),
        (b"text,label\n", ["no rows"]),
        (b"txet,label\na,b\n", ["no column 'text'", "Did you mean 'txet'?"]),
        (b"text,lable\na,b\n", ["no column 'label'", "Did you mean 'lable'?"]),
        (b"text,label\na b,animal\nc d,animal\n", ["one class only", "'animal'"]),
        (b"text,label\n,animal\n  ,place\n", ["none of its 2 rows has text"]),
        (b"text,label\na,animal\nb,\n", ["1 rows have text but no 'label'", "line 3"]),
        (b"text,label\na,animal\ncaf\xe9,place\n", ["line 3", "not UTF-8", "iconv"]),
        ("text,label\na,animal\n".encode("utf-16"), ["not UTF-8", "UTF-16"]),
        (b"text,label\na,b,c\n", ["line 2 has 3 fields"]),
        (b'text,label\n"a,b\n', ["line 2"]),
        (b"text,label\n" + b"a b,x\nc d,y\n" * 9, ["['x', 'y']", "['animal', 'place', 'person']"]),
    ],
)
def test_train_files(
    refused: Check, tiny_model_dir: Path, tmp_path: Path, content: bytes | None, words: list[str]
) -> None:
    train = tmp_path / "train.csv"
    if content is not None:
        train.write_bytes(content)
    message = refused("compress", tiny_model_dir, "--train", train)
    assert all(word in message for word in words), message


def test_a_misspelt_file_suggests_the_nearest(refused: Check, tiny_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(GOOD)
    message = refused("compress", tiny_model_dir, "--train", tmp_path / "trian.csv")
    assert f"Did you mean {tmp_path / 'train.csv'}?" in message


def test_labels_in_test_that_train_lacks(refused: Check, tiny_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(GOOD)
    (tmp_path / "test.csv").write_text("text,label\na stone,mineral\n")
    message = refused(
        "compress", tiny_model_dir, "--train", tmp_path / "train.csv", "--test", tmp_path / "test.csv"
    )
    assert "'mineral'" in message
    assert "test.csv" in message


def _config(**changes: Any) -> Change:
    def change(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _without(*patterns: str) -> Change:
    def change(model: Path) -> None:
        for pattern in patterns:
            for path in model.glob(pattern):
                path.unlink()

    return change


def _weights(edit: Callable[[bytes], bytes]) -> Change:
    def change(model: Path) -> None:
        path = model / "model.safetensors"
        path.write_bytes(edit(path.read_bytes()))

    return change


def _nan(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    tensors["bert.encoder.layer.1.output.dense.weight"][0, 0] = float("nan")
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def _torch_pickle(model: Path) -> None:
    import torch

    (model / "model.safetensors").unlink()
    torch.save({"a": _Evil()}, model / "pytorch_model.bin")


def _raw_pickle(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(_Evil()))


def _graph_only(model: Path) -> None:
    _without("config.json", "model.safetensors")(model)
    (model / "model.onnx").write_bytes(b"graph")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("config.json"), ["no config.json"]),
        (_without("tokenizer*", "vocab.txt", "special*"), ["no tokenizer"]),
        (_without("model.safetensors"), ["no weights"]),
        (_weights(lambda data: data[: len(data) // 2]), ["model.safetensors", "truncated"]),
        (_weights(lambda _: b""), ["truncated or damaged"]),
        (_nan, ["bert.encoder.layer.1.output.dense.weight", "not finite"]),
        (_torch_pickle, ["would run code", "safetensors"]),
        (_raw_pickle, ["pytorch_model.bin", "damaged"]),
        (_graph_only, ["no config.json", "model.onnx"]),
        (lambda model: (model / "config.json").write_text("{"), ["not valid JSON"]),
        (lambda model: (model / "tokenizer.json").write_text("{}"), ["tokenizer", "cannot be read"]),
        (_config(hidden_size=64), ["cannot be loaded"]),
        (_config(num_hidden_layers=5), ["lack 'bert.encoder.layer.3"]),
        (_config(model_type="t5"), ["'t5'", "Supported"]),
        (_config(model_type="gpt2", architectures=["GPT2LMHeadModel"]), ["'gpt2'", "Supported"]),
        (_config(model_type="own", auto_map={"AutoModel": "x.Y"}), ["'own'"]),
        (_config(is_decoder=True), ["decoder"]),
        (_config(architectures=["BertForTokenClassification"]), ["TokenClassification", "--finetune"]),
        (_config(problem_type="multi_label_classification"), ["several labels"]),
        (_config(problem_type="regression"), ["regression"]),
    ],
)
def test_model_directories(
    refused: Check,
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    words: list[str],
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    change(model)
    (tmp_path / "train.csv").write_bytes(GOOD)
    monkeypatch.chdir(tmp_path)
    message = refused("compress", model, "--train", tmp_path / "train.csv")
    assert all(word in message for word in words), message
    assert not (tmp_path / "pwned").exists()


def test_what_is_no_model_directory(refused: Check, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(GOOD)
    (tmp_path / "model.onnx").write_bytes(b"graph")
    data = ("--train", tmp_path / "train.csv")
    assert "ONNX" in refused("compress", tmp_path / "model.onnx", *data)
    assert "is a file" in refused("compress", tmp_path / "train.csv", *data)
    assert "no such model" in refused("compress", tmp_path / "none", *data)


@pytest.mark.parametrize(
    ("verb", "options", "words"),
    [
        ("compress", ["--metric", "f2"], ["no metric 'f2'"]),
        ("compress", ["--metric", "f1"], ["f1 is for 2 classes"]),
        ("compress", ["--label-column", "none", "--metric", "accuracy"], ["needs labels"]),
        ("compress", ["--label-column", "none", "--finetune"], ["finetune needs labels"]),
        ("compress", ["--target", "toaster"], ["no target 'toaster'"]),
        ("quantize", ["--candidate", "dynamic-plane"], ["dynamic-plane"]),
        ("prune", ["--heads", "0"], ["heads"]),
        ("prune", ["--layers", "7"], ["layers"]),
        ("bundle", [], ["bundle needs a graph", "pocketformer export"]),
        ("bench", [], ["bench needs a bundle", "pocketformer bundle"]),
    ],
)
def test_options_that_cannot_work(
    refused: Check, tiny_model_dir: Path, tmp_path: Path, verb: str, options: list[str], words: list[str]
) -> None:
    (tmp_path / "train.csv").write_bytes(GOOD)
    message = refused(verb, tiny_model_dir, "--train", tmp_path / "train.csv", *options)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_target_that_cannot_be_measured(
    refused: Check, tiny_model_dir: Path, tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "train.csv").write_bytes(GOOD)
    data = ["--train", tmp_path / "train.csv", "--target", "jetson-orin-nano"]
    message = refused("compress", tiny_model_dir, *data, *options, exit_code=4)
    assert "target 'jetson-orin-nano' cannot be measured: " in message
    assert "its engine is tensorrt" in message
    assert "--target ssh://user@host" in message


@pytest.mark.parametrize("verb", ["finetune", "distill", "quantize"])
def test_steps_without_data(refused: Check, tiny_model_dir: Path, verb: str) -> None:
    assert "needs data" in refused(verb, tiny_model_dir)


def test_an_output_that_is_not_empty(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    assert run_command(["export", str(tiny_model_dir), "-o", str(out)]) == 2
    assert "thesis.tex" in capsys.readouterr().err
    assert run_command(["export", str(tiny_model_dir), "-o", str(out / "thesis.tex")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]
    assert run_command(["prune", str(tiny_model_dir), "--layers", "9", "-o", str(out), "--force"]) == 2
    assert (out / "thesis.tex").read_text() == "years of work"


def test_an_artefact_that_was_moved(tmp_path: Path, tiny_model_dir: Path, refused: Check) -> None:
    model, run = tmp_path / "model", tmp_path / "run"
    shutil.copytree(tiny_model_dir, model)
    record = {"recipe_id": "x", "artefacts": {"model": str(model), "teacher": str(tmp_path / "gone")}}
    run.mkdir()
    (run / "run.json").write_text(json.dumps(record))
    assert "not there any more" in refused("export", run)


def test_texts_longer_than_the_model_takes(tiny_model_dir: Path, tmp_path: Path) -> None:
    """The default length is more than this model's 64 positions: it is cut, and nothing fails later."""
    from pocketformer.pipeline.artefacts import Artefacts
    from pocketformer.pipeline.preflight import preflight
    from pocketformer.pipeline.recipe import Recipe

    recipe = Recipe.from_mapping({"model": tiny_model_dir, "steps": ["export"]})
    assert recipe.max_length == 128
    checked, metric = preflight(recipe, Artefacts(model=tiny_model_dir), None)
    assert checked.max_length == 64
    assert metric == "agreement"
