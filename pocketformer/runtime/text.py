"""From texts to the graph's inputs: token ids, mask and types, exactly as ``tokenizer.json`` says.

The single-text path is the hot one: with a model of half a millisecond every array and every list counts.
So masks and types, which depend on the length alone, are made once per length and shared, read-only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.manifest import TEXT_INPUTS

IntArray = NDArray[np.int64]

# tokenizers spreads a batch over its own threads; below about this many texts waking them costs more than
# it gains, all the more while the idle threads of onnxruntime still spin.
_BATCH_WORTH_THREADS = 64
# Lengths kept in the cache of masks: at 2 x 8 bytes a token, at most about 2 MB for lengths up to this.
_LONGEST_CACHED = 512


class _Encoded(NamedTuple):
    """What ``collate`` needs of a ``tokenizers.Encoding``."""

    ids: list[int]
    type_ids: list[int]


class TextEncoder:
    """Encodes texts for a graph with the inputs ``input_names``, some of ``TEXT_INPUTS``.

    Truncates at ``max_length`` tokens (special tokens included) and pads to the longest text of a call
    with ``pad_id``. ``content`` is what the file holds, where it was read already. An encoder holds no state that a
    call changes, except caches that any thread may fill, so several threads may share one.

    Raises ``VerificationError`` when the tokenizer's file cannot be read or does not fit the settings.
    """

    def __init__(
        self,
        tokenizer_json_path: Union[str, Path],
        max_length: int,
        pad_id: int,
        input_names: Sequence[str],
        *,
        content: Optional[bytes] = None,
    ) -> None:
        path = str(tokenizer_json_path)
        unknown = [name for name in input_names if name not in TEXT_INPUTS]
        if unknown or "input_ids" not in input_names:
            raise VerificationError(
                f"the graph wants the inputs {', '.join(input_names)}; a text gives {', '.join(TEXT_INPUTS)}",
                hint="Export the model with the inputs of a text classifier.",
            )
        try:
            tokenizer = Tokenizer.from_file(path) if content is None else Tokenizer.from_buffer(content)
        except Exception as error:  # tokenizers raises bare Exception
            raise VerificationError(
                f"{path} is not a tokenizer that this version of tokenizers reads: {error}",
                hint="Copy the bundle again, or install the tokenizers version that its manifest names.",
            ) from error
        special = tokenizer.num_special_tokens_to_add(False)
        if max_length <= special:
            raise VerificationError(
                f"max_length is {max_length}, but {path} adds {special} special tokens to every text",
                hint=f"Use a max_length above {special}.",
            )
        # Settings that travelled inside tokenizer.json would pad every text to a fixed length.
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        self.max_length = max_length
        self.pad_id = pad_id
        self.input_names = tuple(input_names)
        self._tokenizer = tokenizer
        self._encode = tokenizer.encode
        self._wants_mask = "attention_mask" in input_names
        self._wants_types = "token_type_ids" in input_names
        # BERT's types of a single text are all zero; a family that does otherwise takes the slower way.
        self._types_are_zero = not any(tokenizer.encode("a").type_ids)
        self._masks: dict[int, tuple[IntArray, IntArray]] = {}

    def encode(self, texts: Sequence[str]) -> dict[str, IntArray]:
        """Inputs of the graph by name, each int64 [batch, sequence]; do not write to them.

        Lone surrogates become U+FFFD and surrogate pairs the character they stand for, as UTF-8 wants.
        Raises ``InputError`` when ``texts`` is a single text, empty, or holds something else than text.
        """
        return self.collate(self.tokenize(texts))

    def encode_one(self, text: str) -> dict[str, IntArray]:
        """The same as ``encode([text])``, on the shortest path."""
        try:
            tokens = self._encode(text)
        except (TypeError, UnicodeEncodeError):
            tokens = self._encode(_clean(text, 0))
        ids = np.array([tokens.ids], dtype=np.int64)
        feeds = {"input_ids": ids}
        length = ids.shape[1]
        if length == 0:  # no special tokens and nothing left of the text: no graph takes zero tokens
            return self.collate([tokens])
        constants = self._masks.get(length) or self._constants(length)
        if self._wants_mask:
            feeds["attention_mask"] = constants[0]
        if self._wants_types:
            if self._types_are_zero:
                feeds["token_type_ids"] = constants[1]
            else:
                feeds["token_type_ids"] = np.array([tokens.type_ids], dtype=np.int64)
        return feeds

    def tokenize(self, texts: Sequence[str], *, first: int = 0) -> list[Any]:
        """``tokenizers.Encoding`` of every text, truncated, not padded. Errors as ``encode``.

        ``first`` is the number that an error gives to the first text.
        """
        texts = text_list(texts)
        try:
            if len(texts) < _BATCH_WORTH_THREADS:
                return [self._encode(text) for text in texts]
            # encode_batch also takes a pair for a text, and would encode ("a", "b") as two segments.
            if all(isinstance(text, str) for text in texts):
                encodings: list[Any] = self._tokenizer.encode_batch(texts)
                return encodings
        except (TypeError, UnicodeEncodeError):
            pass  # a text that is none, or that UTF-8 cannot hold: found and named below
        return [self._encode(_clean(text, index)) for index, text in enumerate(texts, first)]

    def collate(self, encodings: Sequence[Any]) -> dict[str, IntArray]:
        """Pad encodings of ``tokenize`` to the longest one: inputs by name, each int64 [batch, sequence]."""
        if not encodings:
            raise InputError("there is no text to encode", hint="Give at least one text.")
        rows = [encoding.ids for encoding in encodings]
        lengths = [len(row) for row in rows]
        shape = (len(rows), max(1, *lengths))
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        for index, row in enumerate(rows):
            ids[index, : lengths[index]] = row
        feeds = {"input_ids": ids}
        if self._wants_mask:
            feeds["attention_mask"] = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
        if self._wants_types:
            types = np.zeros(shape, dtype=np.int64)
            if not self._types_are_zero:
                for index, encoding in enumerate(encodings):
                    types[index, : lengths[index]] = encoding.type_ids
            feeds["token_type_ids"] = types
        return feeds

    def feed_ids(self, ids: Sequence[int], text: str) -> dict[str, IntArray]:
        """Inputs of the graph for a text that was encoded elsewhere, as a batch of one.

        ``text`` itself is only looked at by tokenizers whose ``token_type_ids`` are not all zero, to know these;
        ``VerificationError`` when they do not fit the ids.
        """
        types = [0] * len(ids)
        if self._wants_types and not self._types_are_zero:
            types = self.tokenize([text])[0].type_ids
            if len(types) != len(ids):
                raise VerificationError(
                    f"there are {len(ids)} ids for a text of {len(types)} tokens",
                    hint="The tokenizer is another.",
                )
        return self.collate([_Encoded(list(ids), types)])

    def _constants(self, length: int) -> tuple[IntArray, IntArray]:
        """All ones and all zeros, int64 [1, length], read-only; two threads at worst make them twice."""
        ones = np.ones((1, length), dtype=np.int64)
        zeros = np.zeros((1, length), dtype=np.int64)
        ones.flags.writeable = False
        zeros.flags.writeable = False
        if length <= _LONGEST_CACHED:
            self._masks[length] = (ones, zeros)
        return ones, zeros


def text_list(texts: Iterable[str]) -> list[str]:
    """The texts as a list; ``InputError`` for one text, whose characters would be taken for texts."""
    if isinstance(texts, list):
        return texts
    if isinstance(texts, (str, bytes)):
        raise InputError(
            "a list of texts is needed, not one text", hint="Put it in a list, or use predict_one."
        )
    return list(texts)


def _clean(text: Any, index: int) -> str:
    """A text that UTF-8 can hold; ``InputError`` when it is no text at all."""
    if not isinstance(text, str):
        raise InputError(
            f"item {index} is {type(text).__name__}, not text",
            hint="Every item must be a str; drop missing values.",
        )
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
