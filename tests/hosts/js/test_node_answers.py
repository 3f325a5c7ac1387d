"""Node gives Python's ids, logits and answers, in the native engine and in WebAssembly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hosts.js.conftest import python_rows, restate, run, write_texts

from pocketformer.runtime.text import TextEncoder

CHECKS = ["manifest", "files", "golden", "load", "tokenizer", "logits", "labels"]
# The evidence fuzzes the demo's settings at length; here every setting of the normalizer has a turn.
NORMALIZERS = (
    {"lowercase": True, "strip_accents": None, "clean_text": True, "handle_chinese_chars": True},
    {"lowercase": True, "strip_accents": False, "clean_text": True, "handle_chinese_chars": False},
    {"lowercase": False, "strip_accents": True, "clean_text": False, "handle_chinese_chars": True},
    {"lowercase": False, "strip_accents": None, "clean_text": True, "handle_chinese_chars": True},
)


def cli(app: Path, *words: object, code: int = 0) -> str:
    return run(["node", str(app / "pocketformer-cli.mjs"), *map(str, words)], code=code)


def test_three_lines_give_an_answer(node_app: Path) -> None:
    label, score = run(["node", "example.mjs", "who is the old king ?"], cwd=node_app).split()
    (expected,) = python_rows(node_app / "model", ["who is the old king ?"])
    assert label == expected["label"]
    assert score == f"{100 * expected['score']:.1f}%"


@pytest.mark.parametrize("engine", [[], ["--wasm"]], ids=["native", "wasm"])
def test_answers_are_those_of_python(
    node_app: Path, small_bundle: Path, tiny_texts: list[str], tmp_path: Path, engine: list[str]
) -> None:
    texts = [*tiny_texts[:20], "", "a" * 500, "Ünïcode ΑΣ \ud800 \U0001f600 [SEP]"]
    printed = cli(node_app, "answers", small_bundle, write_texts(tmp_path / "texts", texts), *engine)
    for row, expected in zip(
        map(json.loads, printed.splitlines()), python_rows(small_bundle, texts), strict=True
    ):
        assert row["input_ids"] == expected["input_ids"]
        assert row["logits"] == pytest.approx(expected["logits"], abs=1e-5)
        assert row["label"] == expected["label"]
        assert row["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_verify_tells_every_check(node_app: Path, small_bundle: Path) -> None:
    lines = cli(node_app, "verify", small_bundle).splitlines()
    assert [line[:6] for line in lines] == ["ok    "] * len(CHECKS)
    assert [line[6:18].rstrip() for line in lines] == CHECKS
    assert lines[4] == "ok    tokenizer   4 of 4 texts give the same ids"


@pytest.fixture(scope="module")
def nasty(tiny_texts: list[str]) -> list[str]:
    from evidence.nasty_texts import nasty_texts

    return [text for text in nasty_texts(900, words=tiny_texts, seed=5) if len(text) < 2000]


@pytest.mark.parametrize("settings", NORMALIZERS, ids=["uncased", "accents-stay", "accents-go", "cased"])
def test_ids_of_nasty_texts_are_those_of_python(
    node_app: Path, small_bundle: Path, nasty: list[str], tmp_path: Path, settings: dict[str, Any]
) -> None:
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    path = bundle / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["normalizer"] = {"type": "BertNormalizer", **settings}
    # The characters themselves, so that one that is taken for another shows.
    vocabulary = document["model"]["vocab"]
    for character in sorted(
        {character for text in nasty for character in text if not "\ud800" <= character < "\ue000"}
    ):
        for piece in (character, "##" + character):
            vocabulary.setdefault(piece, len(vocabulary))
    path.write_text(json.dumps(document), encoding="utf-8")
    encoder = TextEncoder(path, 400, 0, ["input_ids"])
    restate(
        bundle, "tokenizer.json", change=lambda manifest: manifest["preprocessing"].update(max_length=400)
    )
    # Its graph has no rows for so many ids, so that only the tokens are asked for.
    printed = cli(node_app, "tokens", bundle, write_texts(tmp_path / "texts", nasty)).splitlines()
    wanted = [encoder.encode([text])["input_ids"][0].tolist() for text in nasty]
    wrong = [
        ascii(text)
        for text, line, ids in zip(nasty, printed, wanted, strict=True)
        if json.loads(line)["input_ids"] != ids
    ]
    assert wrong == []
    assert len({id_ for ids in wanted for id_ in ids}) > 1000


def test_a_long_text_is_cut_off_without_waiting(node_app: Path, small_bundle: Path, tmp_path: Path) -> None:
    texts = ["who is the king " * 7000, "?" * 100_000, "\u0301\u0316" * 50_000]
    printed = cli(node_app, "tokens", small_bundle, write_texts(tmp_path / "texts", texts)).splitlines()
    wanted = [row["input_ids"] for row in python_rows(small_bundle, texts)]
    assert [json.loads(line)["input_ids"] for line in printed] == wanted


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda document: document["model"].update(type="Unigram"), "a Unigram model"),
        (lambda document: document.update(normalizer={"type": "NFC"}), 'the normalizer "NFC"'),
        (lambda document: document.update(pre_tokenizer=None), "the pre-tokenizer null"),
        (lambda document: document["added_tokens"][0].update(lstrip=True), "depends on what stands beside it"),
        (lambda document: document["post_processor"].update(type="RobertaProcessing"), "RobertaProcessing"),
    ],
    ids=["unigram", "normalizer", "pre-tokenizer", "added-token", "post-processor"],
)  # fmt: skip
def test_a_tokenizer_that_was_not_proven_is_refused(
    node_app: Path, small_bundle: Path, tmp_path: Path, change: Any, told: str
) -> None:
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    document = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))
    change(document)
    (bundle / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    restate(bundle, "tokenizer.json")
    # 4: the bundle may be good, this host is not the one for it.
    argv = ["node", str(node_app / "pocketformer-cli.mjs"), "verify", str(bundle)]
    assert told in run(["bash", "-c", '"$@" 2>&1', "-", *argv], code=4)


def test_usage_and_what_is_missing_have_codes_of_their_own(
    node_app: Path, small_bundle: Path, tmp_path: Path
) -> None:
    cli(node_app, "verify", code=2)
    cli(node_app, "predict", small_bundle, code=2)
    cli(node_app, "verify", small_bundle / "nowhere", code=2)
    cli(node_app, "verify", small_bundle, "--key", small_bundle / "README.md", code=2)
    cli(_without(node_app, tmp_path, "onnxruntime-node", "onnxruntime-web"), "verify", small_bundle, code=4)


def test_webassembly_takes_the_place_of_a_missing_native_engine(
    node_app: Path, small_bundle: Path, tmp_path: Path
) -> None:
    lines = cli(_without(node_app, tmp_path, "onnxruntime-node"), "verify", small_bundle).splitlines()
    assert lines[3].startswith("ok    load        onnxruntime-web ")


def _without(app: Path, tmp_path: Path, *packages: str) -> Path:
    """The app with all of its packages but these."""
    copy = shutil.copytree(app, tmp_path / "app", ignore=lambda folder, names: {"node_modules"} & set(names))
    (copy / "node_modules").mkdir()
    for package in (app / "node_modules").iterdir():
        if package.name not in packages:
            (copy / "node_modules" / package.name).symlink_to(package.resolve())
    return copy
