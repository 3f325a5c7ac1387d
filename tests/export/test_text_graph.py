"""Text in, answer out: written where the tokenizer in the graph agrees on every text, else a difference is shown."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketformer import load
from pocketformer.export import text_graph
from pocketformer.export.hard_texts import COUNT, hard_texts, hard_texts_of
from pocketformer.export.text_graph import TextDomain, build_text_graph, write_text_graph
from pocketformer.runtime.errors import ExportError, InputError, MissingDependencyError, ParityError

LETTERS = TextDomain(characters="a-zA-Z ?.,", longest=60)


@pytest.fixture(scope="module")
def extensions() -> None:
    if importlib.util.find_spec("onnxruntime_extensions") is None:
        pytest.skip('needs onnxruntime-extensions: pip install "pocketformer[text-graph]"')


@pytest.fixture(scope="module")
def written(extensions: None, small_bundle: Path, tiny_texts: list[str], tmp_path_factory: Any) -> Path:
    path: Path = tmp_path_factory.mktemp("text") / "answers.onnx"
    gate = write_text_graph(small_bundle, path, tiny_texts, LETTERS)
    assert (gate.golden, gate.user, gate.hard) == (4, len(tiny_texts), COUNT)
    assert "No difference on 4 golden texts" in gate.sentence()
    return path


def answers(graph: Path | bytes, texts: list[str]) -> list[dict[str, Any]]:
    session = text_graph._session(
        graph if isinstance(graph, bytes) else graph.read_bytes(), text_graph._library()
    )
    names = [item.name for item in session.get_outputs()]
    return [
        dict(zip(names, session.run(None, {"text": np.array([text], dtype=object)}), strict=True))
        for text in texts
    ]


def test_it_answers_as_the_bundle_does(written: Path, small_bundle: Path) -> None:
    texts = ["Where is the old king ?", "", "Cat, dog. WOLF", "q" * 60]
    model = load(small_bundle)
    for text, given in zip(texts, answers(written, texts), strict=True):
        wanted = model.predict_one(text)
        assert given["label"].tolist() == [wanted.label]
        assert given["score"][0] == pytest.approx(wanted.score, abs=1e-5)
        assert given["input_ids"].tolist() == model.encode([text])["input_ids"].tolist()
        np.testing.assert_allclose(given["logits"], model.logits([text]), atol=1e-5)


def test_it_says_what_lies_outside_of_what_was_proven(written: Path) -> None:
    texts = ["fine ?", "", "caf\u00e9", "[SEP]", "a" * 61, "a\nb", "1"]
    inside = [bool(given["in_domain"][0]) for given in answers(written, texts)]
    assert inside == [True, True, False, False, False, False, False]


def test_for_any_text_it_is_refused_and_the_first_difference_shown(
    extensions: None, small_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParityError) as caught:
        write_text_graph(small_bundle, tmp_path / "no.onnx", [])
    assert caught.value.exit_code == 5
    shown = re.search(
        r"for the (\w+) text ('.*?') the bundle has the ids (\[.*?\]), the graph (\[.*?\])", str(caught.value)
    )
    assert shown, caught.value
    assert "Nothing was written" in str(caught.value)
    assert "--characters" in str(caught.value)
    assert not list(tmp_path.iterdir())
    # What it shows is true: both sides, asked again.
    text = eval(shown.group(2))
    ids = load(small_bundle).encode([text])["input_ids"][0].tolist()
    given = answers(build_text_graph(small_bundle, TextDomain()), [text])[0]["input_ids"][0].tolist()
    assert shown.group(1) == "hard"
    assert (str(ids), str(given)) == (shown.group(3), shown.group(4))
    assert ids != given


@pytest.mark.parametrize("text", ["a\x00b", "[SEP] a", "[MASK]", "\ufffd"])
def test_the_reasons_are_real(text: str, extensions: None, small_bundle: Path) -> None:
    given = answers(build_text_graph(small_bundle, TextDomain()), [text])[0]["input_ids"][0].tolist()
    assert given != load(small_bundle).encode([text])["input_ids"][0].tolist()


def test_one_difference_on_the_users_own_texts_is_enough(
    extensions: None, small_bundle: Path, tmp_path: Path
) -> None:
    domain = TextDomain(characters=r"a-zA-Z \[\]", longest=30)
    with pytest.raises(ParityError, match=r"for the your own text '\[SEP\] cat'"):
        write_text_graph(small_bundle, tmp_path / "no.onnx", ["cat dog", "[SEP] cat"], domain)
    with pytest.raises(ParityError, match="for the hard text"):
        write_text_graph(small_bundle, tmp_path / "no.onnx", ["cat dog"], domain)
    with pytest.raises(InputError, match="not of the domain that you name"):
        write_text_graph(small_bundle, tmp_path / "no.onnx", ["caf\u00e9"], LETTERS)
    assert not list(tmp_path.iterdir())


def test_a_wrong_label_or_logit_is_found(
    extensions: None, small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = text_graph._session

    class Other:
        def __init__(self, session: Any, index: int, value: Any) -> None:
            self.session, self.index, self.value = session, index, value

        def run(self, names: Any, feeds: Any) -> Any:
            found = self.session.run(names, feeds)
            found[self.index] = self.value(found[self.index])
            return found

    for index, value, words in (
        (1, lambda logits: logits + 0.1, "the logits"),
        (2, lambda label: np.array(["nobody"]), "the label"),
        (3, lambda inside: ~inside, "in_domain"),
    ):
        monkeypatch.setattr(text_graph, "_session", lambda *a, i=index, v=value: Other(real(*a), i, v))
        with pytest.raises(ParityError, match=words):
            write_text_graph(small_bundle, tmp_path / "no.onnx", [], LETTERS)


def test_the_hard_texts_are_many_different_and_always_the_same() -> None:
    texts = hard_texts()
    assert len(texts) == len(set(texts)) == COUNT
    assert texts == hard_texts()
    whole = "".join(texts)
    for character in "\u0301\u4f60\u200d\x00\U0001f600\u00df\u0130\ufffd\u202e":
        assert character in whole
    assert "" in texts
    assert "[SEP]" in texts
    assert max(map(len, texts)) >= 5000
    few = hard_texts_of("a-c ", 8)
    assert len(few) == len(set(few)) == COUNT
    assert all(re.fullmatch("[a-c ]{0,8}", text) for text in few)
    assert {"", "a", "aaaaaaaa"} <= set(few)
    assert sorted(hard_texts_of("a", 3)) == ["", "a", "aa", "aaa"]


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        (TextDomain(characters="z-a"), "no set of characters"),
        (TextDomain(characters="a", longest=0), "longest text"),
        (TextDomain(characters="a", longest=1001), "longest text"),
    ],
)
def test_a_domain_that_is_none_is_refused(domain: TextDomain, words: str) -> None:
    with pytest.raises(InputError, match=words):
        domain.pattern()


def test_another_kind_of_tokenizer_is_refused(small_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    content = json.loads((small_bundle / "tokenizer.json").read_text(encoding="utf-8"))
    for change in ({"model": {**content["model"], "type": "BPE"}}, {"normalizer": None}):
        path.write_text(json.dumps({**content, **change}), encoding="utf-8")
        with pytest.raises(ExportError, match="only BERT's tokenizer"):
            text_graph._tokenizer(path, 16)


def test_pieces_that_share_an_id_keep_it(small_bundle: Path, tmp_path: Path) -> None:
    content = json.loads((small_bundle / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["dog"] = content["model"]["vocab"]["cat"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    attributes, ids = text_graph._tokenizer(path, 16)
    lines = attributes["vocab_file"].split("\n")
    assert len(lines) == len(ids) == len(content["model"]["vocab"])
    assert ids[lines.index("dog")] == ids[lines.index("cat")]


def test_the_verb_writes_or_says_why_not(
    cli_json: Any, extensions: None, small_bundle: Path, tiny_files: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "answers.onnx"
    arguments = ("export", small_bundle, "--format", "text-graph", "--train", tiny_files[0])
    assert cli_json(*arguments, "-o", out)[0] == 5
    assert not out.exists()
    named = (*arguments, "--characters", LETTERS.characters, "--longest", 60)
    code, printed = cli_json(*named, "-o", out)
    assert code == 0
    assert printed["notes"][0].startswith(
        "No difference on 4 golden texts, 45 of your own and 1000 hard ones"
    )
    assert cli_json(*named, "-o", out)[0] == 2
    assert cli_json(*named, "--force", "-o", out)[0] == 0
    assert cli_json(*named, "-o", tmp_path / "folder")[0] == 2
    assert cli_json(*arguments, "--longest", 60, "-o", out)[0] == 2
    assert cli_json("export", small_bundle, "--characters", "a", "-o", out)[0] == 2


def test_without_the_package_it_says_what_to_install(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    with pytest.raises(MissingDependencyError) as caught:
        write_text_graph(small_bundle, tmp_path / "no.onnx", [])
    assert "pocketformer[text-graph]" in (caught.value.hint or "")
    assert caught.value.exit_code == 4
