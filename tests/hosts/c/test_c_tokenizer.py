"""Token ids in C are those of ``tokenizers``: every code point, nasty texts, every setting that BERT's files have."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts.c import unicode_tables
from hosts.c.building import Program, compile_c
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))

MAX_LENGTH = 300
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Where letters, marks, digits, signs and punctuation of small scripts lie; what is left out has no lower case.
_SPANS = ((0x21, 0x3000), (0xA000, 0xAC00), (0xF900, 0x12000), (0x16000, 0x17000), (0x1D000, 0x1F000))
_TOKENS = (
    AddedToken("New York", single_word=True),
    AddedToken("<l>", lstrip=True, normalized=False),
    AddedToken("<r>", rstrip=True, normalized=False),
    AddedToken("<b>", lstrip=True, rstrip=True),
    AddedToken("Élan", normalized=True),
    AddedToken("Élan vital", normalized=False, single_word=True),
    AddedToken("a", single_word=True, normalized=False),
    AddedToken("##x", normalized=True),
)
_PIECES = ("New York", "new york", " ", "\u00a0", "\t", "<l>", "<r>", "<b>", "Élan", "élan", "ELAN", " vital", "a", "b",
           "_", "-", "字", "\u0301", "é", "##x", "x", "\u200b", "[MASK]", "\ud800", "\0")  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary() -> dict[str, int]:
    """With so many characters as pieces every normal form shows in the ids."""
    points = itertools.chain.from_iterable(itertools.starmap(range, _SPANS))
    characters = [chr(point) for point in points if unicodedata.category(chr(point))[0] in "LMNSP"]
    pieces = dict.fromkeys([*SPECIAL, *characters, *(f"##{character}" for character in characters)])
    return {piece: number for number, piece in enumerate(pieces)}


def make_tokenizer(
    vocabulary: dict[str, int],
    normalizer: Any = None,
    tokens: tuple[AddedToken, ...] = (),
    post: str | None = "template",
) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens(list(tokens))
    if post == "template":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    elif post == "bert":
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def assert_same_ids(
    program: Program, tokenizer: Tokenizer, texts: list[str], changed: Callable[..., Path], folder: Path
) -> None:
    bundle = changed(
        {"tokenizer.json": tokenizer.to_str().encode()},
        lambda manifest: manifest["preprocessing"].update(max_length=MAX_LENGTH),
    )
    rows = program.rows("tokens", bundle, texts, folder)
    tokenizer.enable_truncation(MAX_LENGTH)
    whole = [text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for text in texts]
    expected = [encoding.ids for encoding in tokenizer.encode_batch(whole)]
    different = [
        (ascii(text[:80]), ids[:20], row["input_ids"][:20])
        for text, ids, row in zip(texts, expected, rows, strict=True)
        if ids != row["input_ids"]
    ]
    assert not different, (len(different), different[:3])


@pytest.mark.parametrize(
    ("settings", "all_points"),
    [({}, True), ({"strip_accents": False}, True), (None, True), ({"lowercase": False}, False),
     ({"lowercase": False, "strip_accents": True}, False), ({"clean_text": False}, False),
     ({"handle_chinese_chars": False}, False)],
)  # fmt: skip
def test_settings_of_the_normalizer(
    program: Program,
    vocabulary: dict[str, int],
    settings: dict[str, bool] | None,
    all_points: bool,
    changed: Callable[..., Path],
    tiny_texts: list[str],
    tmp_path: Path,
) -> None:
    from evidence.nasty_texts import nasty_texts

    tokenizer = make_tokenizer(vocabulary) if settings is None else make_tokenizer(
        vocabulary, normalizers.BertNormalizer(**settings), post="template" if settings else "bert"
    )  # fmt: skip
    texts = nasty_texts(300, words=tiny_texts, seed=len(str(settings)))
    if all_points:  # each alone, and in the middle of a word
        points = [chr(point) for point in unicode_tables.CODE_POINTS if not 0x20000 <= point < 0x10F000]
        groups = [points[start : start + 32] for start in range(0, len(points), 32)]
        texts += [" ".join(group) for group in groups]
        texts += [" ".join(f"a{point}b" for point in group) for group in groups]
    assert_same_ids(program, tokenizer, texts, changed, tmp_path)


@pytest.mark.parametrize(
    "normalizer", [None, normalizers.BertNormalizer(), normalizers.BertNormalizer(lowercase=False)]
)
def test_tokens_inside_a_text(
    program: Program,
    vocabulary: dict[str, int],
    normalizer: Any,
    changed: Callable[..., Path],
    tmp_path: Path,
) -> None:
    rng = random.Random(3)
    texts = ["".join(rng.choices(_PIECES, k=rng.randint(1, 12))) for _ in range(1000)]
    tokenizer = make_tokenizer(vocabulary, normalizer, _TOKENS, post=None)
    assert_same_ids(program, tokenizer, texts, changed, tmp_path)


def test_nasty_texts_under_sanitizers(
    sanitized: Program,
    vocabulary: dict[str, int],
    changed: Callable[..., Path],
    tiny_texts: list[str],
    tmp_path: Path,
) -> None:
    from evidence.nasty_texts import nasty_texts

    tokenizer = make_tokenizer(vocabulary, normalizers.BertNormalizer(), _TOKENS)
    assert_same_ids(sanitized, tokenizer, nasty_texts(300, words=tiny_texts, seed=9), changed, tmp_path)


def test_malformed_utf_8_is_replaced_as_python_does(program: Program, tmp_path: Path) -> None:
    """What a program hands over need not be UTF-8."""
    rng = random.Random(1)
    alphabet = [
        b"a",
        b"\x80",
        b"\xbf",
        b"\xc0",
        b"\xc2",
        b"\xc3\xa9",
        b"\xe0",
        b"\xe0\xa0",
        b"\xed\xa0\x80",
        b"\xe4\xb8",
        b"\xf0\x9f\x98\x80",
        b"\xf0\x90",
        b"\xf4\x90",
        b"\xf5",
        b"\xff",
        b"\xf0\x80\x80\x80",
        b"\0",
    ]
    lines = [b"".join(rng.choices(alphabet, k=rng.randint(1, 8))).replace(b"\n", b"") for _ in range(500)]
    binary = compile_c(Path(__file__).with_name("decode_lines.c"), tmp_path / "decode", "-O1")
    done = subprocess.run([binary], input=b"\n".join(lines), capture_output=True, check=True)
    assert done.stdout.decode("utf-8").split("\n")[:-1] == [line.decode("utf-8", "replace") for line in lines]


@pytest.mark.parametrize(
    ("edit", "code", "told"),
    [
        (lambda t: t.update(model={"type": "BPE", "vocab": {}, "merges": []}), 4, "the model is BPE"),
        (lambda t: t.update(model={"type": "Unigram", "vocab": []}), 4, "the model is Unigram"),
        (lambda t: t.update(normalizer={"type": "NFKC"}), 4, "the normalizer is NFKC"),
        (lambda t: t.update(pre_tokenizer={"type": "Metaspace"}), 4, "the pre_tokenizer is Metaspace"),
        (lambda t: t.update(post_processor={"type": "RobertaProcessing"}), 4, "the post_processor is Roberta"),
        (lambda t: t["model"].update(unk_token="nothing"), 5, "unk_token is not in"),
        (lambda t: t["model"].update(vocab={}), 5, "vocab must be"),
        (lambda t: t["model"]["vocab"].update(x=-1), 5, "no whole number"),
        (lambda t: t["added_tokens"][0].update(id=77), 5, "the added token [PAD] has the id 77"),
        (lambda t: t["added_tokens"].append(dict(t["added_tokens"][0])), 5, "twice"),
        (lambda t: t["post_processor"]["single"].pop(1), 5, "the text A once"),
    ],
)  # fmt: skip
def test_what_it_does_not_have_is_refused_by_name(
    program: Program,
    small_bundle: Path,
    changed: Callable[..., Path],
    tmp_path: Path,
    edit: Callable[[dict[str, Any]], object],
    code: int,
    told: str,
) -> None:
    document = json.loads((small_bundle / "tokenizer.json").read_text(encoding="utf-8"))
    edit(document)
    bundle = changed({"tokenizer.json": json.dumps(document).encode()})
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n')
    done = program.run("tokens", bundle, tmp_path / "texts.jsonl")
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr


@pytest.mark.slow
def test_the_tables_are_what_tokenizers_does() -> None:
    assert unicode_tables.render() == unicode_tables.TABLES.read_text()
