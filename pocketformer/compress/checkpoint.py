"""Reading the files of a model directory with suspicion: what is missing, damaged or dangerous is named
first."""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.compress.prune.tokenizer_files import has_tokenizer
from pocketformer.runtime.errors import ModelError

if TYPE_CHECKING:
    import torch

WEIGHTS_IN_SAFETENSORS = "safetensors"
WEIGHTS_IN_PICKLE = "pickle"
_HEAD_WEIGHTS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it is stored: its shape and its bytes."""

    shape: tuple[int, ...]
    bytes: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Checkpoint:
    """A model directory whose files are there and readable.

    ``config`` is config.json. ``kind`` says how the weights in ``files`` are stored. ``head_outputs`` is the
    number of outputs of a trained sequence classification head, None without one. ``stored`` describes every
    tensor.
    """

    directory: Path
    config: dict[str, Any]
    kind: str
    files: tuple[Path, ...]
    head_outputs: int | None
    stored: dict[str, StoredTensor]

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the head's outputs (``LABEL_0``, ... where none were given), or None without a head."""
        if self.head_outputs is None:
            return None
        names = self.config.get("id2label") or {}
        return tuple(str(names.get(str(index), f"LABEL_{index}")) for index in range(self.head_outputs))


def open_checkpoint(directory: Path, *, tokenizer: bool = True) -> Checkpoint:
    """Check a model directory: configuration, tokenizer (unless switched off) and weights.

    Raises ``ModelError`` that names the file and what to do, also for an ONNX file in the place of a
    directory, a truncated safetensors file, and a pickle that would run code when read.
    """
    _check_is_directory(directory)
    config = _read_config(directory)
    if tokenizer and not has_tokenizer(directory):
        raise ModelError(
            f"{directory} has no tokenizer",
            hint="Save the model's tokenizer there (tokenizer.json or vocab.txt).",
        )
    kind, files = _find_weights(directory)
    stored = _describe_safetensors(files) if kind == WEIGHTS_IN_SAFETENSORS else _describe_pickles(files)
    return Checkpoint(directory, config, kind, files, _head_outputs(config, stored), stored)


def read_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """All weights of a checked model directory, by name."""
    tensors: dict[str, torch.Tensor] = {}
    for file in checkpoint.files:
        if checkpoint.kind == WEIGHTS_IN_SAFETENSORS:
            from safetensors.torch import load_file

            tensors.update(load_file(str(file)))
        else:
            tensors.update(_load_pickle(file))
    return tensors


def _check_is_directory(directory: Path) -> None:
    if not directory.exists():
        raise ModelError(
            f"there is no model directory at {directory}",
            hint="Give a local Hugging Face directory (config.json, model.safetensors, tokenizer.json).",
        )
    if directory.is_dir():
        return
    if directory.suffix == ".onnx":
        raise ModelError(
            f"{directory} is an ONNX file; a model directory is needed",
            hint="ONNX graphs cannot be trained: give the Hugging Face directory it was exported from.",
        )
    raise ModelError(
        f"{directory} is a file; a model directory is needed", hint="Give the directory that holds it."
    )


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.is_file():
        onnx = sorted(directory.glob("*.onnx"))
        raise ModelError(
            f"{directory} has no config.json" + (f" (it holds {onnx[0].name})" if onnx else ""),
            hint="Give a local Hugging Face directory, as written by save_pretrained.",
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} is not valid JSON: {error}", hint="Copy the model directory again."
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(
            f"{path} does not name a model_type",
            hint="Give a directory written by Transformers' save_pretrained.",
        )
    return config


def _find_weights(directory: Path) -> tuple[str, tuple[Path, ...]]:
    for kind, name in (
        (WEIGHTS_IN_SAFETENSORS, "model.safetensors"),
        (WEIGHTS_IN_PICKLE, "pytorch_model.bin"),
    ):
        if (directory / name).is_file():
            return kind, (directory / name,)
        index = directory / f"{name}.index.json"
        if index.is_file():
            try:
                parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise ModelError(
                    f"{index} cannot be read: {error!r}", hint="Copy the model again."
                ) from error
            files = tuple(directory / str(part) for part in parts)
            absent = [file for file in files if not file.is_file()]
            if absent:
                raise ModelError(f"weights are missing: {absent[0]}", hint="Copy all parts of the model.")
            return kind, files
    raise ModelError(
        f"{directory} has no weights",
        hint="A model directory needs model.safetensors (or pytorch_model.bin).",
    )


def _describe_safetensors(files: tuple[Path, ...]) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    stored: dict[str, StoredTensor] = {}
    for file in files:
        try:
            with safe_open(str(file), framework="np") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a mapping
                    view = opened.get_slice(name)
                    shape = tuple(view.get_shape())
                    # Types are written like F32, BF16, I64, F8_E4M3, BOOL: the first number is the width in
                    # bits.
                    bits = re.search(r"\d+", view.get_dtype())
                    stored[name] = StoredTensor(
                        shape, math.prod(shape) * (int(bits.group()) if bits else 8) // 8
                    )
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file} is truncated or damaged: {error}", hint="Copy or download the file again."
            ) from error
    return stored


def _describe_pickles(files: tuple[Path, ...]) -> dict[str, StoredTensor]:
    return {
        name: StoredTensor(tuple(tensor.shape), tensor.numel() * tensor.element_size())
        for file in files
        for name, tensor in _load_pickle(file).items()
    }


def _load_pickle(file: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols; what matters is raised
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower():
            raise ModelError(
                f"{file} was refused: reading this pickle would run code",
                hint="Get the model as safetensors from a source that you trust.",
            ) from error
        raise ModelError(
            f"{file} is damaged: not a checkpoint of torch", hint="Copy the file again."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{file} is truncated or damaged: {error}", hint="Copy the file again.") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ModelError(
            f"{file} holds no table of tensors",
            hint="Save the model's state dict, best with save_pretrained.",
        )
    return {str(name): tensor for name, tensor in loaded.items()}


def _head_outputs(config: dict[str, Any], stored: dict[str, StoredTensor]) -> int | None:
    architectures = config.get("architectures") or ()
    # A head for another task (tokens, answers) may have the same tensor names.
    if architectures and not any(str(name).endswith("ForSequenceClassification") for name in architectures):
        return None
    for name in _HEAD_WEIGHTS:
        if name in stored:
            return stored[name].shape[0]
    return None
