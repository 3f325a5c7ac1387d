"""What is in a model directory: parameters, work, bytes per part, and what could be made smaller.

Read off the shapes of the stored tensors; no model is built and no weight is loaded, so it answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketformer.compress.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from pocketformer.compress.families import EncoderFamily, family_of_type
from pocketformer.compress.prune.tokenizer_files import read_tokenizer
from pocketformer.runtime.errors import ModelError

DEFAULT_SEQUENCES = (8, 32, 128, 512)


@dataclass(frozen=True)
class PartSize:
    """One part of a model: its parameters and the bytes that they take as stored."""

    name: str
    parameters: int
    bytes: int


@dataclass(frozen=True)
class LayerShape:
    """Heads, head size and feed-forward width of one encoder layer."""

    heads: int
    head_size: int
    ffn: int


@dataclass(frozen=True)
class Prunable:
    """Something that can be made smaller: ``what``, how much there is now, and how (or why it cannot be)."""

    what: str
    present: str
    possible: bool
    how: str


@dataclass(frozen=True)
class ModelInspection:
    """What ``inspect_model`` found.

    ``family`` is None when the architecture cannot be pruned; ``reason`` then says why. ``macs_per_token``
    and ``macs_once`` are the parts of ``macs`` that do not depend on the length. ``parts``:
    embeddings, each layer's attention and feed-forward network (LayerNorms included), the head (with the
    pooler). ``labels`` are the names of a trained classification head's outputs, or None.
    """

    directory: str
    model_type: str
    family: str | None
    reason: str | None
    parameters: int
    bytes: int
    hidden: int | None
    vocabulary: int | None
    positions: int | None
    layers: tuple[LayerShape, ...]
    labels: tuple[str, ...] | None
    parts: tuple[PartSize, ...]
    macs_per_token: int | None
    macs_once: int | None
    prunable: tuple[Prunable, ...]
    tokenizer: str | None

    def macs(self, tokens: int) -> int | None:
        """Multiply-accumulates for one text of ``tokens`` tokens: linear maps, attention scores and their
        use.

        The head reads one token. Look-ups, LayerNorm, softmax and activations are not counted. None where the
        architecture is not known.
        """
        if self.macs_per_token is None or self.macs_once is None:
            return None
        attention = sum(2 * layer.heads * layer.head_size for layer in self.layers)
        return tokens * self.macs_per_token + tokens * tokens * attention + self.macs_once

    def to_dict(self, sequences: Sequence[int] = DEFAULT_SEQUENCES) -> dict[str, Any]:
        """Plain values for JSON; ``macs`` maps each length (as text) that the positions allow to its MACs."""
        lengths = [tokens for tokens in sequences if self.positions is None or tokens <= self.positions]
        macs = {} if self.macs_once is None else {str(tokens): self.macs(tokens) for tokens in lengths}
        return {**asdict(self), "macs": macs}


def inspect_model(directory: Path) -> ModelInspection:
    """Describe a model directory.

    Raises ``ModelError`` when the directory is missing, damaged or without configuration, tokenizer or
    weights. An architecture that cannot be pruned is described as far as possible.
    """
    checkpoint = open_checkpoint(Path(directory))
    config = checkpoint.config
    stored = checkpoint.stored
    family, reason = None, None
    layers: tuple[LayerShape, ...] = ()
    try:
        family = family_of_type(str(config["model_type"]))
        layers = _layer_shapes(checkpoint, family)
    except ModelError as error:
        family, reason = None, error.message
    vocabulary = _rows(stored, "word_embeddings.weight")
    positions = _rows(stored, "position_embeddings.weight")
    if positions is not None and family is not None and family.positions_start_after_pad:
        positions -= int(config.get("pad_token_id") or 0) + 1
    kind = str(read_tokenizer(checkpoint.directory)["model"].get("type", "")) or None
    return ModelInspection(
        directory=str(directory),
        model_type=str(config["model_type"]),
        family=family.name if family else None,
        reason=reason,
        parameters=sum(tensor.size for tensor in stored.values()),
        bytes=sum(tensor.bytes for tensor in stored.values()),
        hidden=_hidden(config),
        vocabulary=vocabulary,
        positions=positions,
        layers=layers,
        labels=checkpoint.label_names,
        parts=_parts(stored, family) if family else _whole(stored),
        macs_per_token=_macs_per_token(stored, family) if family else None,
        macs_once=_macs_of_head(stored, family) if family else None,
        prunable=_prunable(layers, vocabulary, positions, kind) if family else (),
        tokenizer=kind,
    )


def _hidden(config: Mapping[str, Any]) -> int | None:
    value = config.get("hidden_size", config.get("dim"))
    return int(value) if isinstance(value, int) else None


def _rows(stored: Mapping[str, StoredTensor], ending: str) -> int | None:
    return next((tensor.shape[0] for name, tensor in stored.items() if name.endswith(ending)), None)


def _place(name: str, family: EncoderFamily) -> tuple[int, str] | None:
    """Layer number and name within the layer of a stored tensor, or None outside the encoder's layers."""
    found = re.search(rf"(?:^|\.){re.escape(family.layers)}\.(\d+)\.(.+)$", name)
    return (int(found.group(1)), found.group(2)) if found else None


def _layer_shapes(checkpoint: Checkpoint, family: EncoderFamily) -> tuple[LayerShape, ...]:
    config = checkpoint.config
    heads = int(config.get("num_attention_heads", config.get("n_heads", 12)))
    size = (_hidden(config) or 0) // heads
    widths: dict[int, dict[str, int]] = {}
    for name, tensor in checkpoint.stored.items():
        place = _place(name, family)
        for part in ("query", "ffn_in"):
            if place is not None and place[1] == f"{getattr(family, part)}.weight":
                widths.setdefault(place[0], {})[part] = tensor.shape[0]
    if not widths or size == 0 or any(len(found) < 2 for found in widths.values()):
        raise ModelError(f"the weights have no encoder layers of a {family.name} model")
    return tuple(LayerShape(widths[i]["query"] // size, size, widths[i]["ffn_in"]) for i in sorted(widths))


def _part_of(name: str, family: EncoderFamily) -> str:
    place = _place(name, family)
    if place is not None:
        attention = place[1].startswith(("attention.", "sa_layer_norm."))
        return f"layer {place[0]} {'attention' if attention else 'feed-forward'}"
    embedding = re.search(r"(?:^|\.)embeddings(?:_project)?\.", name)
    return "embeddings" if embedding else "head"


def _parts(stored: Mapping[str, StoredTensor], family: EncoderFamily) -> tuple[PartSize, ...]:
    sums: dict[str, list[int]] = {}
    for name, tensor in stored.items():
        total = sums.setdefault(_part_of(name, family), [0, 0])
        total[0] += tensor.size
        total[1] += tensor.bytes
    number = re.compile(r"\d+")

    def order(name: str) -> tuple[int, int, str]:
        found = number.search(name)
        return ({"embeddings": 0, "head": 2}.get(name, 1), int(found.group()) if found else 0, name)

    return tuple(PartSize(name, *sums[name]) for name in sorted(sums, key=order))


def _whole(stored: Mapping[str, StoredTensor]) -> tuple[PartSize, ...]:
    return (
        PartSize("whole model", sum(t.size for t in stored.values()), sum(t.bytes for t in stored.values())),
    )


def _macs_per_token(stored: Mapping[str, StoredTensor], family: EncoderFamily) -> int:
    """MACs of the linear maps that every token passes: those of the layers and the embeddings' projection."""
    return sum(
        tensor.size
        for name, tensor in _matrices(stored)
        if _part_of(name, family).startswith("layer") or "embeddings_project" in name
    )


def _macs_of_head(stored: Mapping[str, StoredTensor], family: EncoderFamily) -> int:
    return sum(tensor.size for name, tensor in _matrices(stored) if _part_of(name, family) == "head")


def _matrices(stored: Mapping[str, StoredTensor]) -> Iterator[tuple[str, StoredTensor]]:
    for name, tensor in stored.items():
        if len(tensor.shape) == 2 and name.endswith("weight"):
            yield name, tensor


def _prunable(
    layers: tuple[LayerShape, ...], vocabulary: int | None, positions: int | None, kind: str | None
) -> tuple[Prunable, ...]:
    heads, widths = sorted({layer.heads for layer in layers}), sorted({layer.ffn for layer in layers})
    word_piece = kind == "WordPiece"
    return (
        Prunable(
            "layers", str(len(layers)), len(layers) > 1, "keep some layers and train the rest to imitate"
        ),
        Prunable("attention heads", _range(heads) + " in each layer", heads[-1] > 1, "by Fisher saliency"),
        Prunable(
            "feed-forward neurons", _range(widths) + " in each layer", widths[-1] > 8, "by Fisher saliency"
        ),
        Prunable(
            "vocabulary",
            f"{vocabulary} rows",
            word_piece,
            "rows that the data does not use"
            if word_piece
            else f"not yet for {kind} tokenizers, only for WordPiece",
        ),
        Prunable("positions", f"{positions} tokens", (positions or 0) > 1, "down to the longest text"),
    )


def _range(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
