"""Loading and saving classifiers: a model directory is checked first, and pruned shapes come back.

A directory written by ``save_classifier`` holds, where heads or neurons were removed, the record
``"pocketformer": {"layers": [{"heads": [0, 2, 3], "ffn": 512}, ...]}`` in config.json (``heads`` are the
numbers that the kept heads had before). It always loads through ``load_classifier``; plain Transformers up to
4.57 loads it too when all layers have the same feed-forward width (removed heads stand in ``pruned_heads``).
``hidden_directions.npy`` lies in it where the hidden state was narrowed.
"""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pocketformer.compress.checkpoint import (
    WEIGHTS_IN_PICKLE,
    Checkpoint,
    open_checkpoint,
    read_tensors,
)
from pocketformer.compress.families import (
    RECORD_KEY,
    encoder_layers,
    family_of,
    ffn_width,
    head_count,
    head_size,
    kept_heads,
)
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.compress.prune.tokenizer_files import copy_tokenizer_files
from pocketformer.runtime.errors import ModelError, NoSpaceError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

DIRECTIONS_FILE = "hidden_directions.npy"
_log = logging.getLogger(__name__)
_NEEDS_HEAD_HINT = "Fine-tune it first (pocketformer finetune), or name the labels to start with a new head."


@dataclass(frozen=True)
class LayerStructure:
    """Shapes of one encoder layer: ``heads`` of ``head_size`` each and ``ffn`` neurons.

    ``kept_heads`` are the numbers that the heads had before pruning.
    """

    heads: int
    head_size: int
    ffn: int
    kept_heads: tuple[int, ...]


@dataclass(frozen=True)
class Structure:
    """Shapes of an encoder: its layers, hidden width, embedding rows (vocabulary) and position rows."""

    layers: tuple[LayerStructure, ...]
    hidden: int
    vocabulary: int
    positions: int

    @property
    def uniform(self) -> bool:
        """Whether all layers have the same number of heads and the same feed-forward width."""
        return len({(layer.heads, layer.ffn) for layer in self.layers}) <= 1


def structure_of(model: PreTrainedModel) -> Structure:
    """Read the shapes off a loaded model; ``ModelError`` for an architecture that is not supported."""
    family = family_of(model)
    numbers = kept_heads(model, family)
    return Structure(
        layers=tuple(
            LayerStructure(
                heads=head_count(layer, family),
                head_size=head_size(layer, family),
                ffn=ffn_width(layer, family),
                kept_heads=tuple(kept),
            )
            for layer, kept in zip(encoder_layers(model, family), numbers, strict=True)
        ),
        hidden=int(model.config.hidden_size),
        vocabulary=int(cast(Any, model.get_input_embeddings()).num_embeddings),
        positions=int(model.config.max_position_embeddings),
    )


def has_classification_head(directory: Path, num_labels: int | None = None) -> bool:
    """Whether the checkpoint holds a trained sequence classifier (with ``num_labels`` outputs, if given).

    Raises ``ModelError`` when the directory is not a usable model directory.
    """
    outputs = open_checkpoint(Path(directory)).head_outputs
    return outputs is not None and num_labels in (None, outputs)


def check_model_directory(directory: Path) -> None:
    """Raise ``ModelError`` unless the directory has configuration, tokenizer and whole, harmless weights."""
    open_checkpoint(Path(directory))


def label_names_of(directory: Path) -> tuple[str, ...] | None:
    """The names of a trained classification head's labels, in the order of its outputs; None without a head.

    Raises ``ModelError`` when the directory is not a usable model directory.
    """
    return open_checkpoint(Path(directory)).label_names


def load_classifier(
    directory: Path, *, label_names: Sequence[str] | None = None, seed: int = 0
) -> PreTrainedModel:
    """Load a sequence classifier from a local directory: evaluation mode, float32, on the CPU.

    Without ``label_names`` the directory must hold a trained head. With them the model gets these labels: a
    head that was trained for the same labels in the same order stays (also one whose labels have no names,
    when the given names are just "0", "1", ...); otherwise a new head is made, with initial values that
    ``seed`` decides.

    Checked before anything is loaded: configuration, tokenizer and weights are there and whole; a pickle is
    read with ``weights_only`` and refused if it would run code. Afterwards: every weight of the encoder was
    found, with the right shape, and is finite. Raises ``ModelError`` that names the file or tensor.
    """
    import torch

    checkpoint = open_checkpoint(Path(directory))
    if label_names is None and checkpoint.head_outputs is None:
        raise ModelError(f"{directory} has no head for sequence classification", hint=_NEEDS_HEAD_HINT)
    # Building a model draws random numbers; the caller's generator must not notice.
    with torch.random.fork_rng(devices=[]), _quiet_transformers():
        torch.manual_seed(seed)
        pruned = bool(checkpoint.config.get(RECORD_KEY) or checkpoint.config.get("pruned_heads"))
        model = _load_pruned(checkpoint) if pruned else _load_plain(checkpoint)
        if label_names is not None:
            _set_labels(model, checkpoint, tuple(label_names))
    model = model.float().eval()
    # Loaded weights may be views of the mapped file: copies survive its being overwritten, and lie aligned in
    # memory, on which the last bits of a matrix product can depend.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"tensor '{name}' in {directory} holds values that are not finite (NaN or infinite)",
                hint="The training that made it diverged, or the file is damaged; use another checkpoint.",
            )
    return model


def save_classifier(model: PreTrainedModel, tokenizer_source_dir: Path, output: Path) -> Path:
    """Write a model directory: configuration with the pruned shapes, safetensors, the tokenizer's files,
    licence.

    Tokenizer files are copied byte for byte. Raises ``ModelError`` when the source has no tokenizer and
    ``NoSpaceError`` when the disk is full. Returns ``output``.
    """
    source, output = Path(tokenizer_source_dir), Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        copy_tokenizer_files(source, output)
        copy_companions(source, output)
        model.save_pretrained(str(output))
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or "No space left" in str(error):  # safetensors has its own class of errors
            raise NoSpaceError(
                f"no space left to write {output}", hint="Free some space and run again."
            ) from error
        raise
    return output


def hidden_directions(directory: Path) -> NDArray[np.float32] | None:
    """How a narrowed model's hidden states stand to those of the model that it was narrowed from: x' = x P.

    P [hidden before, hidden now] has orthonormal columns; None for a model that was not narrowed. ``ModelError`` for
    a file that cannot be read.
    """
    path = Path(directory) / DIRECTIONS_FILE
    if not path.exists():
        return None
    try:
        directions: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", hint="Copy the model directory again.") from error
    return directions


def copy_companions(source: Path, output: Path) -> None:
    """Copy what goes with a model: under which terms it may be used (LICENSE*, NOTICE*), and how it was narrowed."""
    for pattern in ("LICENSE*", "NOTICE*", DIRECTIONS_FILE):
        for file in source.glob(pattern):
            if file.is_file() and file.resolve() != (output / file.name).resolve():
                shutil.copyfile(file, output / file.name)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Transformers warns of new heads and of loading; here that is either intended or becomes an error."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def load_configuration(directory: Path) -> Any:
    """The Transformers configuration of a model directory; ``ModelError`` when it cannot be used."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(
            f"config.json in {directory} cannot be used: {str(error).splitlines()[0]}",
            hint="Models with their own code are not supported; use an architecture of Transformers.",
        ) from error


def _load_plain(checkpoint: Checkpoint) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            str(checkpoint.directory),
            config=load_configuration(checkpoint.directory),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=checkpoint.kind != WEIGHTS_IN_PICKLE,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{checkpoint.directory} cannot be loaded as a sequence classifier: {str(error).splitlines()[0]}",
            hint="Weights and config.json must belong together, and the architecture must classify texts.",
        ) from error
    prefix = f"{model.base_model_prefix}."
    lacking = [
        key
        for key in sorted(info["missing_keys"])
        if key.startswith(prefix) and (checkpoint.head_outputs is not None or ".pooler." not in key)
    ]
    if lacking:
        raise ModelError(
            f"the weights in {checkpoint.directory} lack '{lacking[0]}' ({len(lacking)} tensors in all)",
            hint="Weights and config.json must belong together; copy the model again.",
        )
    return cast("PreTrainedModel", model)


def _load_pruned(checkpoint: Checkpoint) -> PreTrainedModel:
    """Build the model before pruning, cut it to the recorded shapes, and load the weights strictly."""
    from transformers import AutoModelForSequenceClassification

    config = load_configuration(checkpoint.directory)
    heads, widths = _recorded_shapes(checkpoint, config)
    config.pruned_heads = {}
    if hasattr(config, RECORD_KEY):
        delattr(config, RECORD_KEY)
    model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    family = family_of(model)
    full = ffn_width(encoder_layers(model, family)[0], family)
    if max(widths, default=full) > full:
        raise ModelError(
            f"config.json in {checkpoint.directory} records a width of {max(widths)}, but "
            f"{family.ffn_key} is {full}",
            hint="Copy the model directory again; the record and the configuration do not belong together.",
        )
    try:
        keep_parts(model, heads, [range(width) for width in widths or [full] * len(heads)])
    except ValueError as error:
        raise ModelError(
            f"the record of pruned shapes in {checkpoint.directory}/config.json is wrong: {error}",
            hint="Copy the model directory again.",
        ) from error
    tensors = read_tensors(checkpoint)
    own = model.state_dict()
    prefix = f"{model.base_model_prefix}."
    if checkpoint.head_outputs is None:
        tensors.update(
            {name: own[name] for name in own if not name.startswith(prefix) and name not in tensors}
        )
    wrong = sorted(
        f"'{name}'" for name in own.keys() | tensors.keys()
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    )  # fmt: skip
    if wrong:
        raise ModelError(
            f"weights and recorded shapes in {checkpoint.directory} differ at {wrong[0]} "
            f"({len(wrong)} tensors in all)",
            hint="Weights and config.json must come from the same run; copy the model directory again.",
        )
    model.load_state_dict(tensors, strict=True)
    return cast("PreTrainedModel", model)


def _recorded_shapes(checkpoint: Checkpoint, config: Any) -> tuple[list[list[int]], list[int]]:
    """Kept heads and feed-forward width of each layer; no widths when only ``pruned_heads`` is written."""
    record = checkpoint.config.get(RECORD_KEY)
    total = int(config.num_attention_heads)
    try:
        if record:
            rows = record["layers"]
            if len(rows) != config.num_hidden_layers:
                raise ValueError(f"{len(rows)} layers recorded, {config.num_hidden_layers} configured")
            heads = [
                list(range(row["heads"])) if isinstance(row["heads"], int) else [int(h) for h in row["heads"]]
                for row in rows
            ]
            return heads, [int(row["ffn"]) for row in rows]
        removed = {
            int(layer): {int(h) for h in gone} for layer, gone in checkpoint.config["pruned_heads"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"the record of pruned shapes in {checkpoint.directory}/config.json cannot be read: {error!r}",
            hint="Copy the model directory again.",
        ) from error
    kept = [
        [h for h in range(total) if h not in removed.get(layer, set())]
        for layer in range(config.num_hidden_layers)
    ]
    return kept, []


def _set_labels(model: PreTrainedModel, checkpoint: Checkpoint, names: tuple[str, ...]) -> None:
    if len(names) < 2 or len(set(names)) != len(names):
        raise ModelError(
            f"labels {list(names)} are not usable", hint="Give two or more different label names."
        )
    current = tuple(str(model.config.id2label[index]) for index in range(model.config.num_labels))
    unnamed = all(name == f"LABEL_{index}" for index, name in enumerate(current))
    counted = all(name in (str(index), f"LABEL_{index}") for index, name in enumerate(names))
    trained = checkpoint.head_outputs is not None
    if trained and current != names and set(current) == set(names):
        raise ModelError(
            f"the model's labels are {list(current)}, asked for in another order: {list(names)}",
            hint="Use the model's own order, so that no label is exchanged for another.",
        )
    if not (trained and (current == names or (unnamed and counted and len(current) == len(names)))):
        _replace_head(model, names)
        _log.info("a new classification head for %d labels was made", len(names))
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}


def _replace_head(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Give the model the head of a freshly made one with as many outputs."""
    import copy

    config = copy.deepcopy(model.config)
    config.pruned_heads = {}
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    # Only the head of this model is used, so its encoder is as small as it can be.
    config.vocab_size = max(int(config.pad_token_id or 0) + 1, 8)
    config.num_hidden_layers = 1
    fresh = type(model)(config)
    for name, module in fresh.named_children():
        if name != model.base_model_prefix:
            setattr(model, name, module)
    model.config.problem_type = None
    for holder in (model, *model.modules()):  # heads remember how many labels there are
        if hasattr(holder, "num_labels"):
            cast(Any, holder).num_labels = len(names)
