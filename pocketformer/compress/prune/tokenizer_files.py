"""The files of a tokenizer: copied as they are, or written anew with other ids.

Files are always copied or edited as JSON, never saved by a tokenizer object: saving drops the pieces that
share an id with another one (see ``vocabulary``), and may rewrite what it does not know.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketformer.runtime.errors import ModelError

TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_FILES: tuple[str, ...] = (
    TOKENIZER_JSON,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""Every file name that a tokenizer of a supported family may consist of."""

_VOCABULARIES = {
    TOKENIZER_JSON,
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
}


def has_tokenizer(directory: Path) -> bool:
    """Whether a file with a vocabulary is there."""
    return any((directory / name).is_file() for name in _VOCABULARIES)


def copy_tokenizer_files(source: Path, output: Path) -> None:
    """Copy a tokenizer's files byte for byte, and make a tokenizer.json when the source has none.

    ``ModelError`` when ``source`` holds no tokenizer. ``source`` and ``output`` may be the same directory.
    """
    if not has_tokenizer(source):
        raise ModelError(
            f"no tokenizer in {source}", hint="A model directory needs tokenizer.json or vocab.txt."
        )
    output.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        file = source / name
        if file.is_file() and file.resolve() != (output / name).resolve():
            shutil.copyfile(file, output / name)
    if not (output / TOKENIZER_JSON).is_file():
        (output / TOKENIZER_JSON).write_text(
            json.dumps(read_tokenizer(source), ensure_ascii=False), encoding="utf-8"
        )


def read_tokenizer(directory: Path) -> dict[str, Any]:
    """The contents of tokenizer.json; made from the older files (vocab.txt, ...) when it is not there.

    Raises ``ModelError`` when there is no tokenizer or it cannot be read.
    """
    path = directory / TOKENIZER_JSON
    if not path.is_file():
        from transformers import AutoTokenizer

        try:
            text = AutoTokenizer.from_pretrained(
                str(directory), local_files_only=True
            ).backend_tokenizer.to_str()
        except Exception as error:
            raise ModelError(
                f"the tokenizer in {directory} cannot be read: {error}",
                hint="Save the model's tokenizer again so that the directory has a tokenizer.json.",
            ) from error
    else:
        text = path.read_text(encoding="utf-8")
    try:
        tokenizer = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelError(
            f"{path} is not valid JSON: {error}", hint="Copy the tokenizer's files again."
        ) from error
    if not isinstance(tokenizer, dict) or not isinstance(tokenizer.get("model"), dict):
        raise ModelError(f"{path} holds no tokenizer model", hint="Copy the tokenizer's files again.")
    return tokenizer


def all_pieces(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Every piece with its id: the model's vocabulary and the added tokens."""
    pieces = {str(piece): int(number) for piece, number in tokenizer["model"]["vocab"].items()}
    pieces.update({str(token["content"]): int(token["id"]) for token in tokenizer.get("added_tokens") or ()})
    return pieces


def with_ids(tokenizer: Mapping[str, Any], pieces: Mapping[str, int]) -> dict[str, Any]:
    """A copy of a tokenizer.json with the vocabulary ``pieces`` (piece -> id), renumbered throughout.

    The added tokens must be among ``pieces``. Normalizer, pre-tokenizer and decoder stay as they are; ids in
    the post-processor and the padding follow. Added tokens become part of the vocabulary, because the library
    numbers those that are not in it by itself.
    """
    changed = copy.deepcopy(dict(tokenizer))
    changed["model"]["vocab"] = dict(sorted(pieces.items(), key=lambda item: (item[1], item[0])))
    for token in changed.get("added_tokens") or ():
        token["id"] = pieces[token["content"]]
    changed["added_tokens"] = sorted(changed.get("added_tokens") or (), key=lambda token: int(token["id"]))
    _renumber_processor(changed.get("post_processor"), pieces)
    padding = changed.get("padding")
    if isinstance(padding, dict) and padding.get("pad_token") in pieces:
        padding["pad_id"] = pieces[padding["pad_token"]]
    return changed


def _renumber_processor(processor: Any, pieces: Mapping[str, int]) -> None:
    if not isinstance(processor, dict):
        return
    for inner in processor.get("processors") or ():  # a sequence of processors
        _renumber_processor(inner, pieces)
    special = processor.get("special_tokens")
    if isinstance(special, dict):  # TemplateProcessing
        for entry in special.values():
            entry["ids"] = [pieces[token] for token in entry["tokens"]]
    for role in ("sep", "cls"):  # BertProcessing, RobertaProcessing: [token, id]
        pair = processor.get(role)
        if isinstance(pair, list) and len(pair) == 2 and pair[0] in pieces:
            processor[role] = [pair[0], pieces[pair[0]]]


def write_renumbered(
    source: Path,
    output: Path,
    tokenizer: Mapping[str, Any],
    pieces: Mapping[str, int],
    *,
    max_length: int | None,
) -> None:
    """Write all tokenizer files of ``source`` to ``output`` with the ids of ``pieces``.

    ``max_length`` lowers what the files say about the longest input. A vocab.txt is written only where the
    source has one and every id belongs to one piece: its line numbers are the ids.
    """
    output.mkdir(parents=True, exist_ok=True)
    changed = with_ids(tokenizer, pieces)
    truncation = changed.get("truncation")
    if max_length is not None and isinstance(truncation, dict):
        truncation["max_length"] = min(int(truncation["max_length"]), max_length)
    _write_json(output / TOKENIZER_JSON, changed, indent=None)
    for name in ("special_tokens_map.json",):
        if (source / name).is_file():
            shutil.copyfile(source / name, output / name)
    by_id = sorted(pieces, key=lambda piece: pieces[piece])
    if (source / "vocab.txt").is_file() and [pieces[piece] for piece in by_id] == list(range(len(by_id))):
        (output / "vocab.txt").write_text("".join(f"{piece}\n" for piece in by_id), encoding="utf-8")
    if (source / "added_tokens.json").is_file():
        added = json.loads((source / "added_tokens.json").read_text(encoding="utf-8"))
        _write_json(
            output / "added_tokens.json", {token: pieces[token] for token in added if token in pieces}
        )
    if (source / "tokenizer_config.json").is_file():
        config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
        decoder = config.get("added_tokens_decoder")
        if isinstance(decoder, dict):
            entries = [entry for entry in decoder.values() if entry["content"] in pieces]
            entries.sort(key=lambda entry: pieces[entry["content"]])
            config["added_tokens_decoder"] = {str(pieces[entry["content"]]): entry for entry in entries}
        for key in ("model_max_length", "max_length"):
            if max_length is not None and isinstance(config.get(key), int):
                config[key] = min(config[key], max_length)
        _write_json(output / "tokenizer_config.json", config)


def _write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
